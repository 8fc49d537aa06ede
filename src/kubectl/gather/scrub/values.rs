//! Takes out of text what follows a name that says that its value is a secret. Pure.
//!
//! How a text is to be read is not known: it may be a log, JSON, YAML, an environment or a URL. Where it is doubtful how far
//! a value reaches, more is taken out.

use super::REMOVED;

/// Names whose values are secrets, as the end of a longer name, too.
const NAMES: [&str; 18] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "psk",
    "nonce",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "presharedkey",
    "sharedkey",
    "signingkey",
    "encryptionkey",
    "sessionkey",
    "clientkeydata",
];
/// Names that are parts of harmless ones, such as `bypass`: they count as a word of their own only.
const WORDS: [&str; 2] = ["pass", "pwd"];
/// Values of such names that are none.
const HARMLESS: [&str; 8] = ["", "true", "false", "null", "none", "-", "{}", "[]"];
/// Longest part of a name that is looked at, in bytes.
const NAME_MAX: usize = 64;
/// How much before a name tells what it stands in, in bytes.
const AROUND: usize = 4096;
/// What is kept of `Authorization: Bearer x` (RFC 9110, section 11.6.2).
const SCHEMES: [&str; 3] = ["Bearer ", "bearer ", "Basic "];

/// Whether a name says that its value is a secret: `token`, `BROKER_TOKEN`, `client-key-data`, `privateKey`, `pre-shared
/// key`. Names of files and of objects with secrets are none.
pub(super) fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let last = name.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    // PWD alone is the working directory of a shell.
    let is_word = WORDS.iter().any(|known| last.eq_ignore_ascii_case(known)) && !name.eq_ignore_ascii_case("pwd");
    is_word || NAMES.iter().any(|known| plain.ends_with(known))
}

/// Whether a value is none, whatever its name says.
pub(super) fn is_harmless(value: &str) -> bool {
    HARMLESS.contains(&value.trim_end_matches([',', ' ', '\t', '\r']))
}

/// The text without values of telling names.
pub(super) fn without_values(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let body = line.trim_end_matches(['\n', '\r']);
        let goes_on = Line { body }.clean(&mut clean);
        clean.push_str(&line[body.len()..]);
        // YAML (1.2.2, section 8): what belongs to a value of many lines stands further to the right than its name.
        let column = match goes_on {
            GoesOn::No => continue,
            GoesOn::Below(column) => column,
            GoesOn::BelowIfValue(column) => match lines.next_if(|next| is_deeper(next, column) && is_value(next)) {
                Some(first) => {
                    let indent = first.len() - first.trim_start_matches([' ', '\t']).len();
                    clean.push_str(&format!("{}{REMOVED}\n", &first[..indent]));
                    column
                }
                None => continue,
            },
        };
        while lines.next_if(|next| is_deeper(next, column)).is_some() {}
    }
    clean
}

/// Whether lines below belong to the value of a line: those right of this column.
enum GoesOn {
    No,
    Below(usize),
    /// Nothing of the value was on the line; below may be an object, too.
    BelowIfValue(usize),
}

/// Neither an item of a list nor a key.
fn is_value(line: &str) -> bool {
    let text = line.trim();
    !text.is_empty() && !text.starts_with(['-', '{', '[', '#']) && !begins_with_name(text)
}

fn is_deeper(line: &str, column: usize) -> bool {
    let text = line.trim_start_matches([' ', '\t']);
    text.trim().is_empty() || line.len() - text.len() > column
}

struct Line<'a> {
    body: &'a str,
}

/// A name and where its value begins.
struct Named {
    /// Where the name begins, or its quote.
    start: usize,
    /// Whether it is a key of YAML at the begin of a line, so that its value reaches to the end of it.
    is_yaml: bool,
    /// Whether it is the name of `Authorization`, of which the scheme is kept.
    is_authorization: bool,
    /// Where the value begins.
    value: usize,
}

/// How far a value reaches.
enum Reach {
    /// There is no value, or none that is a secret.
    None,
    /// From and to these bytes.
    Within(usize, usize),
    /// From there to the end of the line, and on in deeper lines.
    Beyond(usize),
    /// It is in deeper lines alone, if there is one.
    Below,
}

impl Line<'_> {
    /// Writes the line without its secrets.
    fn clean(&self, clean: &mut String) -> GoesOn {
        let mut done = 0;
        for (at, _) in self.body.match_indices([':', '=']) {
            let Some(named) = (at >= done).then(|| self.named(at, done)).flatten() else { continue };
            match self.reach(&named) {
                Reach::None => {}
                Reach::Within(from, to) => {
                    clean.push_str(&self.body[done..from]);
                    clean.push_str(REMOVED);
                    done = to;
                }
                Reach::Beyond(from) => {
                    clean.push_str(&self.body[done..from]);
                    clean.push_str(REMOVED);
                    return GoesOn::Below(named.start);
                }
                Reach::Below => {
                    clean.push_str(&self.body[done..]);
                    return GoesOn::BelowIfValue(named.start);
                }
            }
        }
        clean.push_str(&self.body[done..]);
        GoesOn::No
    }

    /// The telling name before a `:` or `=` at this place, if there is one after `done`.
    fn named(&self, at: usize, done: usize) -> Option<Named> {
        let (before, after) = (&self.body[done..at], &self.body[at + 1..]);
        // A path of Rust such as `broker::token`, or a URL.
        let is_colon = self.body[at..].starts_with(':');
        if is_colon && (after.starts_with(':') || after.starts_with("//") || before.ends_with(':')) {
            return None;
        }
        let bare = before.trim_end_matches([' ', '\t']).trim_end_matches(['"', '\'', '\\']);
        let is_quoted = bare.len() < before.trim_end_matches([' ', '\t']).len();
        let name = &bare[bare.rfind(|c| !is_of_name(c)).map_or(0, |at| at + char_len(bare, at))..];
        // The dash of a list's item, or of an option.
        let name = name.trim_start_matches([' ', '-']);
        let shown = &name[name.len().saturating_sub(NAME_MAX)..];
        let is_path = bare[..bare.len() - name.len()].ends_with("::") && !name.contains(' ');
        let is_authorization = name.to_ascii_lowercase().ends_with("authorization");
        // As a verb: packets that will not pass.
        let is_verb = is_colon && name.ends_with(" pass");
        if is_path || is_verb || name.is_empty() || !(is_authorization || is_secret_name(shown)) {
            return None;
        }
        let start = done + bare.len() - name.len();
        // `:=`, `==` and `=>` are of programs.
        let rest = after.strip_prefix(['=', '>']).unwrap_or(after);
        let value = self.body.len() - rest.trim_start_matches([' ', '\t']).len();
        let is_first = self.body[..start].chars().all(|c| matches!(c, ' ' | '\t' | '-'));
        let is_key = is_first && !is_quoted && !name.contains(' ');
        let is_yaml = is_key && is_colon && (rest.is_empty() || rest.starts_with([' ', '\t']));
        Some(Named { start, is_yaml, is_authorization, value })
    }

    fn reach(&self, named: &Named) -> Reach {
        let mut from = named.value;
        if named.is_authorization {
            let scheme = SCHEMES.iter().find(|scheme| self.body[from..].starts_with(**scheme));
            from += scheme.map_or(0, |scheme| scheme.len());
        }
        let value = &self.body[from..];
        if value.trim().is_empty() && named.is_yaml {
            return Reach::Below;
        }
        if value.trim().is_empty() || is_structure(value) {
            return Reach::None;
        }
        let slashes = value.len() - value.trim_start_matches('\\').len();
        if let Some(quote) = value[slashes..].chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let inside = from + slashes + 1;
            return match closing(&self.body[inside..], quote, slashes) {
                None => Reach::Beyond(inside),
                Some(0) => Reach::None,
                Some(end) if is_harmless(&self.body[inside..inside + end]) => Reach::None,
                Some(end) => Reach::Within(inside, self.after_quote(inside + end, slashes, named)),
            };
        }
        if named.is_yaml {
            return if is_harmless(value) { Reach::None } else { Reach::Beyond(from) };
        }
        let end = self.bare_end(from, named);
        if is_harmless(&self.body[from..end]) { Reach::None } else { Reach::Within(from, end) }
    }

    /// Where a quoted value ends: before its closing quote, but for `"a"b`, of which all is one value in a shell.
    fn after_quote(&self, end: usize, slashes: usize, named: &Named) -> usize {
        let after = end + slashes + 1;
        match self.body.get(after..).and_then(|rest| rest.chars().next()) {
            Some(c) if c.is_ascii_alphanumeric() => self.bare_end(after, named),
            _ => end,
        }
    }

    /// Where a value without quotes ends: at the end of the line, or where another name begins, or what it stands in ends.
    fn bare_end(&self, from: usize, named: &Named) -> usize {
        let before = &self.body[self.body.floor_char_boundary(named.start.saturating_sub(AROUND))..named.start];
        let rest = &self.body[from..];
        let count = |c: char| before.matches(c).count();
        let (in_braces, in_quotes) = (count('{') > count('}'), unescaped_quotes(before) % 2 == 1);
        let ends = |(at, c): (usize, char)| {
            let after = &rest[at + c.len_utf8()..];
            match c {
                ',' | '&' | ';' => begins_with_name(after.trim_start_matches([' ', '\t'])),
                ' ' | '\t' => begins_with_name(after),
                '}' => in_braces && is_outside(after),
                '"' => in_quotes && !rest[..at].ends_with('\\') && is_outside(after),
                _ => false,
            }
        };
        let end = rest.char_indices().find(|one| ends(*one)).map_or(rest.len(), |(at, _)| at);
        let value = rest[..end].trim_end_matches([' ', '\t']);
        from + value.len()
    }
}

/// Letters of names; those of many words, such as `private key`, have spaces.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ')
}

fn char_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(0, char::len_utf8)
}

/// Whether an object, and no value, follows: of JSON, of YAML, or of a program's own notation.
fn is_structure(value: &str) -> bool {
    let Some(inside) = value.strip_prefix(['{', '[']) else { return false };
    let inside = inside.trim_start();
    let is_list_of_objects = value.starts_with('[') && inside.starts_with('{');
    let is_object = value.starts_with('{') && (inside.is_empty() || begins_with_name(inside));
    inside.starts_with(['}', ']']) || is_list_of_objects || is_object
}

/// Whether a text begins with a name and `:` or `=`.
fn begins_with_name(text: &str) -> bool {
    let name = text.trim_start_matches(['"', '\'', '\\']);
    let is_quoted = name.len() < text.len();
    let after = name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let after = if is_quoted { after.trim_start_matches(['"', '\'', '\\']) } else { after };
    begins && after.trim_start_matches([' ', '\t']).starts_with([':', '='])
}

/// Whether what follows can stand after something in quotes or braces.
fn is_outside(after: &str) -> bool {
    after.is_empty() || after.starts_with([' ', '\t', ',', '}', ']', ')', '"', '\'', '\\', ':', ';'])
}

fn unescaped_quotes(text: &str) -> usize {
    text.match_indices('"').filter(|(at, _)| !text[..*at].ends_with('\\')).count()
}

/// Where a quoted text ends, in what follows its opening quote, which had so many backslashes before it: none in JSON, one
/// in JSON within JSON.
fn closing(text: &str, quote: char, slashes: usize) -> Option<usize> {
    let mut skipped = 0;
    for (at, _) in text.match_indices(quote) {
        if at < skipped {
            continue;
        }
        // YAML: two of them are one of the text.
        if quote == '\'' && slashes == 0 && text[at + 1..].starts_with(quote) {
            skipped = at + 2;
            continue;
        }
        let run = text[..at].len() - text[..at].trim_end_matches('\\').len();
        // Single quotes know no backslash.
        if (quote == '\'' && slashes == 0) || run < slashes {
            return Some(at);
        }
        let more = run - slashes;
        if more.is_multiple_of(2 * (slashes + 1)) {
            return Some(at - slashes);
        }
    }
    None
}
