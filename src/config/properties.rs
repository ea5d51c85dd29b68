//! Java's `.properties` text: what `server.properties` and `meta.properties` are written in.
//!
//! A line that ends in an odd number of backslashes goes on in the next, whose leading blanks do
//! not count. A name ends at the first `=`, `:` or blank that no backslash precedes. Escapes are
//! `\t \n \r \f` and `\u` with four hexadecimal digits; a backslash before anything else stands
//! for that character.

/// One `name = value` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    /// From 1; of its first line when it spans several.
    pub line: usize,
    pub name: String,
    pub value: String,
}

/// A line that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PropertiesError {
    pub line: usize,
    pub reason: String,
}

/// All properties in order; the last of a name counts.
pub fn parse_properties(text: &str) -> Result<Vec<Property>, Vec<PropertiesError>> {
    let mut properties = Vec::new();
    let mut errors = Vec::new();
    for (line, logical) in logical_lines(text) {
        let (name, value) = split(&logical);
        match (unescape(name), unescape(value)) {
            (Ok(name), Ok(value)) => properties.push(Property { line, name, value }),
            (Err(reason), _) | (_, Err(reason)) => errors.push(PropertiesError { line, reason }),
        }
    }
    match errors.is_empty() {
        true => Ok(properties),
        false => Err(errors),
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// Lines with their continuations joined, without comments and blank ones.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (index, natural) in unified.split('\n').enumerate() {
        let natural = natural.trim_start_matches(is_blank);
        if !continued && (natural.is_empty() || natural.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = natural.len() - natural.trim_end_matches('\\').len();
        let goes_on = backslashes % 2 == 1;
        let content = &natural[..natural.len() - usize::from(goes_on)];
        match (continued, lines.last_mut()) {
            (true, Some((_, line))) => line.push_str(content),
            _ => lines.push((index + 1, content.to_owned())),
        }
        continued = goes_on;
    }
    lines
}

/// Name and value, still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if !escaped && (matches!(c, '=' | ':') || is_blank(c)) {
            let rest = line[at..].trim_start_matches(is_blank);
            let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], value.trim_start_matches(is_blank));
        }
        escaped = !escaped && c == '\\';
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, String> {
    fn push(units: &mut Vec<u16>, c: char) {
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut units, c);
            continue;
        }
        match chars.next() {
            Some('t') => push(&mut units, '\t'),
            Some('n') => push(&mut units, '\n'),
            Some('r') => push(&mut units, '\r'),
            Some('f') => push(&mut units, '\u{c}'),
            Some('u') => units.push(unicode(&mut chars)?),
            Some(other) => push(&mut units, other),
            None => {}
        }
    }
    String::from_utf16(&units).map_err(|_| "a \\u escape is half of a surrogate pair".to_owned())
}

fn unicode(chars: &mut std::str::Chars<'_>) -> Result<u16, String> {
    let digits: String = chars.by_ref().take(4).collect();
    match digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => u16::from_str_radix(&digits, 16).map_err(|error| error.to_string()),
        false => Err(format!(
            "'\\u{digits}' is not an escape: write \\u and four hexadecimal digits, or \\\\u for \
             a backslash and a u"
        )),
    }
}
