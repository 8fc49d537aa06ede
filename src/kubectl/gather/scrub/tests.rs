//! What is taken out, and what stays.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";

fn scrubber() -> Scrubber {
    let mut known = Known::default();
    known.add_public(PUBLIC);
    known.add_secret(b"correct horse battery");
    known.scrubber().unwrap()
}

#[test]
fn secrets_are_known_by_their_form() {
    let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----";
    let cases = [
        ("joins with lsj1.eyJzZXJ2ZXIi now", "joins with (removed) now"),
        (&format!("authorization: Bearer {JWT}\n"), "authorization: Bearer (removed)\n"),
        (&format!("got {JWT}."), "got (removed)"),
        (&format!("key {PRIVATE} peer {PUBLIC}"), &format!("key (removed) peer {PUBLIC}")),
        (&format!("a\n{pem}\nb"), "a\n(removed)\nb"),
        (&format!("{{\"pem\":\"{}\"}}", pem.replace('\n', "\\n")), "{\"pem\":\"(removed)\"}"),
        ("-----BEGIN PRIVATE KEY-----\nMHcC", "(removed)"),
        (&format!("data: {}", BASE64.encode(pem)), "data: (removed)"),
        (&format!("data: {}", BASE64.encode(JWT)), "data: (removed)"),
        (&format!("data: {}", BASE64.encode("lsj1.eyJzZXJ2ZXIi")), "data: (removed)"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic (removed)"),
    ];
    for (text, expected) in cases {
        assert_eq!(scrubber().text(text), expected, "{text}");
    }
}

#[test]
fn values_of_telling_names_are_taken_out_of_text() {
    let cases = [
        ("token=abc level=info", "token=(removed) level=info"),
        ("{\"password\":\"abc\",\"user\":\"eve\"}", "{\"password\":\"(removed)\",\"user\":\"eve\"}"),
        ("client-key-data: QUJD\nname: x", "client-key-data: (removed)\nname: x"),
        ("privateKey: abc", "privateKey: (removed)"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: false"),
        ("the token of paris", "the token of paris"),
        ("secretName: linkspan-join", "secretName: linkspan-join"),
    ];
    for (text, expected) in cases {
        assert_eq!(scrubber().text(text), expected, "{text}");
    }
}

#[test]
fn a_value_is_taken_out_to_its_end() {
    let cases = [
        ("password: p@ssw0rd!x", "password: (removed)"),
        ("  password: a,b}&c: d # why", "  password: (removed)"),
        ("- password: a\n  user: eve", "- password: (removed)\n  user: eve"),
        ("password = \"abc\"", "password = \"(removed)\""),
        ("password='it''s' user=eve", "password='(removed)' user=eve"),
        ("{\"secret\": \"a\\\"b\", \"x\": 1}", "{\"secret\": \"(removed)\", \"x\": 1}"),
        (
            "{\"in\":\"{\\\"token\\\":\\\"a\\\\\\\"b\\\",\\\"x\\\":1}\"}",
            "{\"in\":\"{\\\"token\\\":\\\"(removed)\\\",\\\"x\\\":1}\"}",
        ),
        ("{\"msg\":\"with token=a;b\",\"level\":\"info\"}", "{\"msg\":\"with token=(removed)\",\"level\":\"info\"}"),
        ("{User:eve Password:a}b Port:1}", "{User:eve Password:(removed) Port:1}"),
        ("{token: abc} more", "{token: (removed)} more"),
        ("GET /?token=a%20b&x=1", "GET /?token=(removed)&x=1"),
        ("password=correct horse user=eve", "password=(removed) user=eve"),
        ("secretAccessKey: a/b+c", "secretAccessKey: (removed)"),
        ("apiKey=abc", "apiKey=(removed)"),
        ("X-Api-Key: abc", "X-Api-Key: (removed)"),
        ("passphrase := 'abc'", "passphrase := '(removed)'"),
        ("psk => abc", "psk => (removed)"),
        ("  preshared key: abc", "  preshared key: (removed)"),
        ("DB_PASS=abc", "DB_PASS=(removed)"),
        ("user=eve pass=abc", "user=eve pass=(removed)"),
        ("run --password a!b --port 1", "run --password (removed) --port 1"),
        ("Authorization: Bearer a!b", "Authorization: Bearer (removed)"),
        ("password: |\n  one\n\n  two\nuser: eve", "password: (removed)\nuser: eve"),
        ("password: \"one\n  two\"\nuser: eve", "password: \"(removed)\nuser: eve"),
        ("password:\n  one\n  two\nuser: eve", "password:\n  (removed)\nuser: eve"),
        ("see https://eve:p@ss/w!rd@example.org/x", "see https://(removed)@example.org/x"),
        ("see https://abc@example.org", "see https://(removed)@example.org"),
    ];
    for (text, expected) in cases {
        assert_eq!(scrubber().text(text), expected, "{text}");
    }
}

#[test]
fn what_only_looks_like_a_value_stays() {
    let stays = [
        "serviceAccountToken:\n  path: token",
        "- secret:\n    secretName: x",
        "\"secret\": {\"name\": \"x\"}, \"y\": 1",
        "\"tokens\": [{\"id\": 1}]",
        "WARN linkspan::broker::token: it expires soon",
        "\"token\": null, \"x\": 1",
        "password = ",
        "bypass: yes",
        "packets will not pass: see below",
        "PWD=/root",
        "https://192.0.2.1:6443/api@x",
        "https://[2001:db8::1]:6443/a@b",
    ];
    for text in stays {
        assert_eq!(scrubber().text(text), text);
    }
}

/// Eight characters and more of what people put into passwords.
fn secret(first: &str, rest: &str) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("{first}{rest}{{7,24}}")).unwrap()
}

/// That no part of a secret of four characters is left in any of the texts around it, beyond what stands in the text
/// itself: by chance a part may be equal to that.
fn assert_gone<const N: usize>(around: impl Fn(&str) -> [String; N], secret: &str) {
    // What no secret holds, and what every form of a text leaves as it is.
    for (text, without) in around(secret).iter().zip(around("ü")) {
        let clean = scrubber().text(text).replace(REMOVED, "\n");
        let is_left = |part: &&[u8]| {
            let part = String::from_utf8_lossy(part);
            clean.matches(&*part).count() > without.matches(&*part).count()
        };
        let left = secret.as_bytes().windows(4).find(is_left);
        assert!(left.is_none(), "{text:?} left {clean:?}");
    }
}

proptest! {
    #[test]
    fn quoted_secrets_go_whatever_is_in_them(secret in secret("[!-~]", "[ -~]")) {
        let around = |secret: &str| {
            let json = serde_json::to_string(secret).unwrap();
            let twice = serde_json::to_string(&json!({ "password": secret }).to_string()).unwrap();
            let yaml = secret.replace('\'', "''");
            [
                format!("{{\"user\":\"eve\",\"password\":{json},\"port\":1}}"),
                format!("  \"client-secret\" : {json}\n"),
                format!("level=info password={json} user=eve"),
                format!("{{\"config\":{twice},\"x\":1}}"),
                format!("apiKey: '{yaml}'\nuser: eve"),
            ]
        };
        assert_gone(around, &secret);
    }

    #[test]
    fn bare_secrets_go_whatever_is_in_them(secret in secret("[A-Za-z0-9@#$%^*+/?~.!]", "[!-~]")) {
        let around = |secret: &str| [
            format!("password: {secret}\nuser: eve"),
            format!("- secretAccessKey:   {secret}\n"),
            format!("passphrase: one\n  {secret}\nuser: eve"),
            format!("psk: >-\n  {secret}\n"),
        ];
        assert_gone(around, &secret);
    }

    #[test]
    fn bare_secrets_within_a_line_go(secret in secret("[A-Za-z0-9@#$%^*+/?~.!]", "[!#-%'-+./0-9A-Z^_`a-z|~@:=<>?-]")) {
        let around = |secret: &str| [
            format!("at 12:00 password={secret} level=info"),
            format!("GET /x?token={secret}&y=1"),
            format!("{{ token: {secret}, user: eve }}"),
            format!("it was api_key = {secret}"),
        ];
        assert_gone(around, &secret);
    }

    #[test]
    fn users_of_urls_go(secret in secret("[!#-;=?-~]", "[!#-;=?-~]")) {
        assert_gone(|secret| [format!("from https://eve:x{secret}@example.org/path\n")], &secret);
    }

    #[test]
    fn text_of_any_form_is_read(text in "(\\PC|[\n\"'\\\\:= {}|]|password){0,60}") {
        scrubber().text(&text);
    }
}

#[test]
fn secrets_that_overlap_go_as_one() {
    let mut known = Known::default();
    known.add_secret(b"abcdefghij");
    known.add_secret(b"efghijklmn");
    let scrubber = known.scrubber().unwrap();
    assert_eq!(scrubber.text("<abcdefghijklmn> <abcdefghij>"), "<(removed)> <(removed)>");
}

#[test]
fn what_is_known_is_taken_out_in_each_of_its_forms() {
    let base64 = BASE64.encode("correct horse battery");
    let text = format!("<correct horse battery> {base64} x{}y", URL_SAFE_NO_PAD.encode("correct horse battery"));
    assert!(scrubber().finds(&text));
    let clean = scrubber().text(&text);
    assert!(!scrubber().finds(&clean) && clean.starts_with("<(removed)> "), "{clean}");
}

#[test]
fn certificates_public_keys_names_and_addresses_stay() {
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let base64 = BASE64.encode(pem);
    let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    for text in [pem, &base64, PUBLIC, digest, "10.42.0.0/16", "linkspan-controller-7d9c4b6f5-x2x4z", "ü → ∞"] {
        assert_eq!(scrubber().text(text), text);
    }
}

#[test]
fn objects_lose_their_secrets_and_keep_their_shape() {
    let mut object = json!({
        "kind": "Secret",
        "metadata": { "name": "x", "managedFields": [1], "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"a\":\"b\"}}", "other": JWT,
        } },
        "data": { "tls.crt": "QUJD" },
        "spec": { "env": [{ "name": "BROKER_TOKEN", "value": "abc" }, { "name": "PORT", "value": "1" }] },
    });
    scrubber().object(&mut object);
    assert_eq!(
        object,
        json!({
            "kind": "Secret",
            "metadata": { "name": "x", "annotations": { "other": "(removed)" } },
            "data": { "tls.crt": "(removed)" },
            "spec": { "env": [{ "name": "BROKER_TOKEN", "value": "(removed)" }, { "name": "PORT", "value": "1" }] },
        })
    );
}
