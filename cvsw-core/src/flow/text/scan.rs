//! Cutting a line into keys and values, with their places.

use super::TextError;

/// A piece of a line and where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub text: &'a str,
    pub offset: usize,
}

impl<'a> Token<'a> {
    pub const fn new(line: &'a str) -> Self {
        Self { text: line, offset: 0 }
    }

    /// An error about this piece.
    pub const fn error(self, expected: &'static str) -> TextError {
        TextError { offset: self.offset, len: self.text.len(), expected }
    }

    /// The first `len` bytes and the rest. `len` is a place that a search in `text` gave.
    fn split_at(self, len: usize) -> (Self, Self) {
        let (head, tail) = self.text.split_at_checked(len).unwrap_or((self.text, ""));
        (
            Self { text: head, offset: self.offset },
            Self { text: tail, offset: self.offset.saturating_add(head.len()) },
        )
    }

    /// What stands before and behind the first `separator`.
    pub fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let (head, tail) = self.split_at(self.text.find(separator)?);
        Some((head, tail.split_at(separator.len_utf8()).1))
    }

    /// What stands before `separator`, which must be the last character.
    pub fn without_last(self, separator: char) -> Option<Self> {
        Some(self.split_at(self.text.strip_suffix(separator)?.len()).0)
    }

    /// The empty piece behind this one.
    fn end(self) -> Self {
        self.split_at(self.text.len()).1
    }
}

/// `key`, `key=value`, `key:value` or `key(value)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub key: Token<'a>,
    pub value: Option<Token<'a>>,
    whole: Token<'a>,
}

impl<'a> Pair<'a> {
    /// The value, or an error that asks for one.
    pub fn value(&self) -> Result<Token<'a>, TextError> {
        self.value.ok_or_else(|| self.key.end().error("\"=\" and a value"))
    }

    /// An error if there is a value.
    pub fn no_value(&self) -> Result<(), TextError> {
        self.value.map_or(Ok(()), |value| Err(value.error("no value")))
    }

    /// An error about the key and its value.
    pub const fn error(&self, expected: &'static str) -> TextError {
        self.whole.error(expected)
    }

    /// The key and its value together.
    pub const fn whole(&self) -> Token<'a> {
        self.whole
    }
}

const SEPARATORS: [char; 5] = [',', ' ', '\t', '\r', '\n'];

/// The pairs of a list, separated by commas or white space. Parentheses protect separators.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a> {
    list: Token<'a>,
    rest: Token<'a>,
}

impl<'a> Pairs<'a> {
    pub const fn new(list: Token<'a>) -> Self {
        Self { list, rest: list }
    }

    /// The next pair, if there is one.
    pub fn next_pair(&mut self) -> Result<Option<Pair<'a>>, TextError> {
        let start = self.rest.text.find(|c| !SEPARATORS.contains(&c)).unwrap_or(self.rest.text.len());
        let (_, rest) = self.rest.split_at(start);
        self.rest = rest;
        if rest.text.is_empty() {
            return Ok(None);
        }
        let key_len =
            rest.text.find(|c| SEPARATORS.contains(&c) || matches!(c, '=' | ':' | '(')).unwrap_or(rest.text.len());
        let (key, behind) = rest.split_at(key_len);
        if key.text.is_empty() {
            return Err(behind.split_at(1).0.error("a name in front of this"));
        }
        let (value, tail) = match behind.text.chars().next() {
            Some('=' | ':') => {
                let (_, value) = behind.split_at(1);
                let (value, tail) = value.split_at(value_len(value)?);
                (Some(value), tail)
            }
            Some('(') => {
                let close = close_of(behind)?;
                let (inside, tail) = behind.split_at(close);
                let (_, tail) = tail.split_at(1);
                if tail.text.chars().next().is_some_and(|c| !SEPARATORS.contains(&c)) {
                    return Err(tail.split_at(value_len(tail)?).0.error("a comma or a space"));
                }
                (Some(inside.split_at(1).1), tail)
            }
            _ => (None, behind),
        };
        self.rest = tail;
        let (whole, _) = rest.split_at(tail.offset.saturating_sub(rest.offset));
        Ok(Some(Pair { key, value, whole }))
    }

    /// Everything behind the `=` of a pair of this list, up to the list's end.
    pub fn behind_equals(&self, pair: &Pair<'a>) -> Result<Token<'a>, TextError> {
        let key_end = pair.key.end();
        let (_, behind) = self.list.split_at(key_end.offset.saturating_sub(self.list.offset));
        if !behind.text.starts_with('=') {
            return Err(key_end.error("\"=\""));
        }
        Ok(behind.split_at(1).1)
    }

    /// The empty piece at the end of the list.
    pub fn end(&self) -> Token<'a> {
        self.rest.end()
    }
}

/// Length of the value that `text` starts with: up to a separator outside parentheses.
fn value_len(text: Token<'_>) -> Result<usize, TextError> {
    let mut depth = 0_usize;
    for (at, c) in text.text.char_indices() {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' if depth == 0 => return Err(text.split_at(at).1.split_at(1).0.error("no \")\" without \"(\"")),
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && SEPARATORS.contains(&c) => return Ok(at),
            _ => {}
        }
    }
    if depth == 0 { Ok(text.text.len()) } else { Err(text.end().error("\")\"")) }
}

/// Place of the parenthesis that closes the one at the start of `text`.
fn close_of(text: Token<'_>) -> Result<usize, TextError> {
    let mut depth = 0_usize;
    for (at, c) in text.text.char_indices() {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' if depth == 1 => return Ok(at),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Err(text.end().error("\")\""))
}

/// Stores the value of a key that may stand only once.
pub(super) fn once<T: PartialEq>(slot: &mut Option<T>, value: T, pair: &Pair<'_>) -> Result<(), TextError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(pair.error("this name only once")),
    }
}
