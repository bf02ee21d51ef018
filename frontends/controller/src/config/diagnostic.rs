//! Messages about a configuration file that name the place, the cause and the fix.

use std::{fmt, ops::Range};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is not used.
    Error,
    /// The file is used, but it will probably not do what was wanted.
    Warning,
}

/// One message about one place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Name of the file, as given by the user.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters that are concerned, at least 1.
    pub width: usize,
    /// The text of that line.
    pub source: String,
    /// What is wrong.
    pub message: String,
    /// How to put it right.
    pub help: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let gutter = self.line.to_string().len();
        writeln!(f, "{severity}: {}", self.message)?;
        writeln!(f, "{:gutter$}--> {}:{}:{}", "", self.file, self.line, self.column)?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{} | {}", self.line, self.source)?;
        writeln!(f, "{:gutter$} | {:indent$}{}", "", "", "^".repeat(self.width), indent = self.column - 1)?;
        write!(f, "{:gutter$} = help: {}", "", self.help)
    }
}

impl Diagnostic {
    /// The field that it is about, if it is not about a file: `networks/blue/mtu`.
    pub fn field(&self) -> &str {
        field(&self.source)
    }
}

/// What a line of [`Report::of_fields`] names.
fn field(line: &str) -> &str {
    line.split_once(" = ").map_or(line, |(field, _)| field)
}

/// A file that cannot be used, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Diagnostic>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects messages about one file.
#[derive(Debug)]
pub(super) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    /// The text is a list of fields that nobody sees; places are named by their fields.
    fields: bool,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(super) const fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, fields: false, errors: Vec::new(), warnings: Vec::new() }
    }

    /// A report about fields, one a line as `path/of/field = value`, that are not a file.
    pub(super) const fn of_fields(text: &'a str) -> Self {
        Self { file: "desired state", text, fields: true, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = self.diagnostic(Severity::Error, span, message.into(), help.into());
        self.errors.push(diagnostic);
    }

    pub(super) fn warning(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = self.diagnostic(Severity::Warning, span, message.into(), help.into());
        self.warnings.push(diagnostic);
    }

    /// The file's text at `span`; empty where there is none.
    pub(super) fn source(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    /// `file:line` of `span`, to point from one message to another place.
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let (line, _, source) = self.locate(span.start);
        if self.fields { field(source).to_owned() } else { format!("{}:{line}", self.file) }
    }

    /// The warnings if there is no error, else the errors; in the order of the file.
    pub(super) fn finish(mut self) -> Result<Vec<Diagnostic>, ConfigErrors> {
        for list in [&mut self.errors, &mut self.warnings] {
            list.sort_by_key(|d| (d.line, d.column));
        }
        if self.errors.is_empty() { Ok(self.warnings) } else { Err(ConfigErrors(self.errors)) }
    }

    fn diagnostic(&self, severity: Severity, span: Range<usize>, message: String, help: String) -> Diagnostic {
        let (line, column, source) = self.locate(span.start);
        let shown = self.source(span).lines().next().unwrap_or_default().chars().count();
        let room = (source.chars().count() + 1).saturating_sub(column - 1).max(1);
        Diagnostic {
            severity,
            file: self.file.to_owned(),
            line,
            column,
            width: shown.clamp(1, room),
            source: source.to_owned(),
            message,
            help,
        }
    }

    /// Line and column (both from 1) of a byte offset, and that line's text.
    fn locate(&self, offset: usize) -> (usize, usize, &'a str) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |at| offset + at);
        let line = before.matches('\n').count() + 1;
        (line, self.text[start..offset].chars().count() + 1, self.text[start..end].trim_end_matches('\r'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place() {
        let mut report = Report::new("c.toml", "a = 1\nnäme = \"x\"\n");
        report.error(14..17, "what", "how");
        let errors = report.finish().unwrap_err();
        let expected = "error: what\n --> c.toml:2:8\n  |\n2 | näme = \"x\"\n  |        ^^^\n  = help: how";
        assert_eq!(errors.to_string(), expected);
    }

    #[test]
    fn survives_every_span() {
        let text = "ä\r\n\nb";
        for start in 0..=text.len() + 2 {
            for end in start..=text.len() + 2 {
                let mut report = Report::new("f", text);
                report.error(start..end, "m", "h");
                let errors = report.finish().unwrap_err();
                assert!(errors.to_string().contains("--> f:"), "{start}..{end}");
            }
        }
    }
}
