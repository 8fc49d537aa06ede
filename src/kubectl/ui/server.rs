//! Serves the page and its data to one person on this machine.
//!
//! Other users of the machine can connect, too, and so can pages of other sites in the person's browser. The first do not
//! know the token in the path. The second do not either, and are told apart by the `Host` header when they let a name of
//! theirs lead to 127.0.0.1 (DNS rebinding).

use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use rand::TryCryptoRng;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::data::Shown;
use crate::http::{self, text, with_type};
use crate::kubectl::picture;

/// The page, in which the other two take the places of their names.
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What has to stand in the path: 128 random bits.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn draw(mut random: impl TryCryptoRng) -> anyhow::Result<Self> {
        let mut bytes = [0; 16];
        random.try_fill_bytes(&mut bytes).ok().context("the kernel gave no random bytes")?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Where the page is.
    pub fn url(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}/{}/", self.0)
    }

    /// In the same time wherever the two differ.
    fn is(&self, other: &str) -> bool {
        let pairs = self.0.bytes().zip(other.bytes());
        self.0.len() == other.len() && pairs.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

/// What the page reads, as it is sent.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    tag: String,
    /// When it was made. Milliseconds since 1970.
    at: i64,
    body: Bytes,
}

impl Answer {
    /// What is shown, as it was seen then, in milliseconds since 1970.
    ///
    /// # Errors
    /// It has no form in JSON.
    pub fn new(shown: &Shown, at: i64) -> anyhow::Result<Self> {
        Ok(Self { tag: format!("\"{}\"", shown.round), at, body: serde_json::to_vec(shown)?.into() })
    }
}

/// Serves until it is cancelled.
///
/// # Errors
/// The listener has no address, or what it would answer is no valid header.
pub async fn serve(listener: TcpListener, token: Token, answer: watch::Receiver<Arc<Answer>>) -> anyhow::Result<()> {
    let port = listener.local_addr().context("the listener has no address")?.port();
    let site = Site::new(port, token, answer)?;
    http::serve(listener, None, move |request| site.respond(request)).await
}

/// What is served, and to whom.
struct Site {
    /// What may stand in `Host`.
    hosts: [String; 2],
    token: Token,
    page: Bytes,
    policy: HeaderValue,
    answer: watch::Receiver<Arc<Answer>>,
}

impl Site {
    fn new(port: u16, token: Token, answer: watch::Receiver<Arc<Answer>>) -> anyhow::Result<Self> {
        let page = PAGE.replace("STYLE", STYLE).replace("SCRIPT", SCRIPT);
        let policy = HeaderValue::from_str(&policy()).context("the content security policy is no header")?;
        let hosts = ["127.0.0.1", "localhost"].map(|name| match port {
            80 => name.to_owned(),
            port => format!("{name}:{port}"),
        });
        Ok(Self { hosts, token, page: page.into(), policy, answer })
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let mut response = self.choose(request);
        let headers = response.headers_mut();
        let fixed: [(HeaderName, &str); 5] = [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }

    fn choose<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if !header(header::HOST).is_some_and(|host| self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))) {
            return text(StatusCode::FORBIDDEN, "open this as http://127.0.0.1, by the URL that was printed\n");
        }
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        let (token, file) = path.split_once('/').unwrap_or((path, "?"));
        if !self.token.is(token) {
            return text(StatusCode::FORBIDDEN, "the path is not the one that `kubectl linkspan ui` has printed\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match file {
            "" => with_type(StatusCode::OK, "text/html; charset=utf-8", self.page.clone()),
            "data.json" => data(&self.answer.borrow().clone(), header(header::IF_NONE_MATCH)),
            _ => text(StatusCode::NOT_FOUND, "there is no such file\n"),
        }
    }
}

/// The newest answer, or that the browser has it already; `Age` tells how many seconds ago it was made.
fn data(answer: &Answer, known: Option<&str>) -> Response<Full<Bytes>> {
    let age = (picture::now() - answer.at).max(0) / 1000;
    let mut response = match known == Some(answer.tag.as_str()) {
        true => with_type(StatusCode::NOT_MODIFIED, "application/json", Bytes::new()),
        false => with_type(StatusCode::OK, "application/json", answer.body.clone()),
    };
    response.headers_mut().insert(header::AGE, age.into());
    if let Ok(tag) = HeaderValue::from_str(&answer.tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Nothing may be loaded or run but what is in the page (<https://www.w3.org/TR/CSP3/>).
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "127.0.0.1:4000";

    fn site() -> Site {
        let shown = Shown { round: 7, ..Shown::default() };
        let (_, answer) = watch::channel(Arc::new(Answer::new(&shown, 0).unwrap()));
        Site::new(4000, Token("secret".to_owned()), answer).unwrap()
    }

    fn ask(method: Method, host: Option<&str>, path: &str, known: Option<&str>) -> Response<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        site().respond(&request.body(()).unwrap())
    }

    fn get(host: &str, path: &str) -> u16 {
        ask(Method::GET, Some(host), path, None).status().as_u16()
    }

    #[test]
    fn only_who_knows_the_token_is_answered() {
        assert_eq!([get(HOST, "/secret/"), get(HOST, "/secret/data.json")], [200, 200]);
        for path in ["/", "/secre/", "/secrets/", "/Secret/", "//", "/favicon.ico", "/other/data.json"] {
            assert_eq!(get(HOST, path), 403, "{path}");
        }
        assert_eq!([get(HOST, "/secret"), get(HOST, "/secret/x")], [404, 404]);
        assert_eq!(ask(Method::POST, Some(HOST), "/secret/data.json", None).status().as_u16(), 405);
    }

    #[test]
    fn names_of_others_that_lead_here_are_refused() {
        assert_eq!(get("LocalHost:4000", "/secret/"), 200);
        for host in ["evil.example:4000", "127.0.0.1:4001", "127.0.0.1", "localhost", "127.0.0.1:4000.evil.example"] {
            assert_eq!(get(host, "/secret/"), 403, "{host}");
        }
        assert_eq!(ask(Method::GET, None, "/secret/", None).status().as_u16(), 403);
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let known = |tag| ask(Method::GET, Some(HOST), "/secret/data.json", Some(tag)).status().as_u16();
        assert_eq!([known("\"7\""), known("\"6\"")], [304, 200]);
    }

    #[test]
    fn nothing_but_the_page_itself_may_run() {
        let response = ask(Method::GET, Some(HOST), "/secret/", None);
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        // Placeholders are words that the parts do not contain, so that each takes its place once.
        assert_eq!([PAGE.matches("STYLE").count(), PAGE.matches("SCRIPT").count()], [1, 1]);
        assert_eq!(
            [STYLE.matches("SCRIPT").count(), STYLE.matches("</").count(), SCRIPT.matches("</").count()],
            [0; 3]
        );
    }

    #[test]
    fn a_token_is_128_bits_in_hexadecimal_digits() {
        use rand::SeedableRng as _;
        let draw = |seed| Token::draw(rand::rngs::StdRng::seed_from_u64(seed)).unwrap();
        let token = draw(1);
        assert_eq!(token.0.len(), 32);
        assert_ne!(token.0, draw(2).0);
        assert_eq!(token.url(4000), format!("http://127.0.0.1:4000/{}/", token.0));
    }
}
