//! Files of flows: one flow a line in `ovs-ofctl` syntax, blank lines, and comments from `#` to the end of the line.

use cvsw_core::{
    Cvsw, Instant,
    flow::{FlowMod, OfpError, text},
};
use std::{
    fmt, fs,
    io::{self, Read},
    path::Path,
};

/// A flow and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFlow {
    /// Line in the file, from 1.
    pub line: usize,
    /// The flow.
    pub flow: FlowMod,
}

/// The flows of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowsFile {
    /// The file's name, for messages.
    pub name: String,
    /// Its flows, in the file's order.
    pub flows: Vec<FileFlow>,
}

/// Why a flow file is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum FlowsError {
    /// The file could not be read.
    #[error("{name}: {source}")]
    Io {
        /// The file.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Some lines are not flows. Never empty.
    #[error("{}", join(.0))]
    Syntax(Vec<SyntaxError>),
    /// The engine does not take some flows. Never empty.
    #[error("{}", join(.0))]
    Refused(Vec<RefusedFlow>),
}

/// A place in a flow file where something else was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The file.
    pub name: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length of the offending text in characters; 0 at the end of the line.
    pub len: usize,
    /// What was expected, as a noun phrase.
    pub expected: String,
    /// The line's text.
    pub source: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: expected {}", self.name, self.line, self.column, self.expected)?;
        writeln!(f, "  {}", self.source)?;
        // A tab stays a tab, so that the caret stands under its character in every terminal.
        let indent = self.source.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' });
        write!(f, "  {}{}", indent.collect::<String>(), "^".repeat(self.len.max(1)))
    }
}

/// A flow that is well written but not acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFlow {
    /// The file.
    pub name: String,
    /// Line, from 1.
    pub line: usize,
    /// The OpenFlow error.
    pub error: OfpError,
}

impl fmt::Display for RefusedFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:1: refused with {}: {}", self.name, self.line, self.error, explain(self.error))
    }
}

/// Reads a file, or standard input if `path` is `-`.
pub fn load(path: &Path) -> Result<FlowsFile, FlowsError> {
    let stdin = path.as_os_str() == "-";
    let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let bytes = if stdin {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    match bytes {
        Ok(bytes) => parse(&name, &bytes),
        Err(source) => Err(FlowsError::Io { name, source }),
    }
}

/// Parses the contents of a file; reports every wrong line, not only the first.
pub fn parse(name: &str, bytes: &[u8]) -> Result<FlowsFile, FlowsError> {
    let mut flows = Vec::new();
    let mut errors = Vec::new();
    for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        match parse_line(bytes) {
            Ok(Some(flow)) => flows.push(FileFlow { line: index + 1, flow }),
            Ok(None) => {}
            Err(place) => errors.push(place.into_error(name, index + 1, bytes)),
        }
    }
    if errors.is_empty() { Ok(FlowsFile { name: name.to_owned(), flows }) } else { Err(FlowsError::Syntax(errors)) }
}

impl FlowsFile {
    /// Puts every flow into an engine's table, as of `now`. Goes on after a refused flow, to report all of them.
    pub fn install<const FLOWS: usize, const CACHE: usize, const MASKS: usize, const SAS: usize>(
        &self,
        engine: &mut Cvsw<FLOWS, CACHE, MASKS, SAS>,
        now: Instant,
    ) -> Result<(), FlowsError> {
        let refused: Vec<_> = self
            .flows
            .iter()
            .filter_map(|FileFlow { line, flow }| {
                let error = engine.flow_mod(now, flow).err()?;
                Some(RefusedFlow { name: self.name.clone(), line: *line, error })
            })
            .collect();
        if refused.is_empty() { Ok(()) } else { Err(FlowsError::Refused(refused)) }
    }
}

/// Where in a line (in bytes) something else was expected.
struct Place {
    offset: usize,
    len: usize,
    expected: &'static str,
}

fn parse_line(bytes: &[u8]) -> Result<Option<FlowMod>, Place> {
    let line = std::str::from_utf8(bytes).map_err(|error| Place {
        offset: error.valid_up_to(),
        len: error.error_len().unwrap_or(0),
        expected: "UTF-8 text",
    })?;
    let text = line.split('#').next().unwrap_or_default().trim_end();
    let flow = text.trim_start();
    if flow.is_empty() {
        return Ok(None);
    }
    let indent = text.len() - flow.len();
    text::parse_flow(flow).map(Some).map_err(|error| Place {
        offset: indent + error.offset.min(flow.len()),
        len: error.len,
        expected: error.expected,
    })
}

impl Place {
    fn into_error(self, name: &str, line: usize, bytes: &[u8]) -> SyntaxError {
        let chars = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().count();
        let end = self.offset.saturating_add(self.len).min(bytes.len());
        let start = self.offset.min(end);
        SyntaxError {
            name: name.to_owned(),
            line,
            column: chars(&bytes[..start]) + 1,
            len: chars(&bytes[start..end]),
            expected: self.expected.to_owned(),
            source: String::from_utf8_lossy(bytes).trim_end().to_owned(),
        }
    }
}

fn join<T: fmt::Display>(errors: &[T]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

const fn explain(error: OfpError) -> &'static str {
    match error {
        OfpError::BadOutPort => "a vNIC has no ports to choose from; only `drop` may follow instead of an output",
        OfpError::BadQueue => "a vNIC has no queues",
        OfpError::BadActionType | OfpError::BadActionVendor | OfpError::BadActionVendorType => {
            "a vNIC has no such action, or not at this place of the list"
        }
        OfpError::BadArgument => "an argument is out of its range",
        OfpError::TooManyActions => "more actions than an entry holds",
        OfpError::TableFull => "the flow table is full (entries, or kinds of wildcards)",
        OfpError::Overlap => "check_overlap is set and another entry of this priority overlaps",
        OfpError::BadEmergTimeout | OfpError::Unsupported | OfpError::BadFlags => {
            "this list of actions or this flag cannot be honoured"
        }
        OfpError::BadCommand => "unknown command",
        OfpError::BadVersion
        | OfpError::BadMessageType
        | OfpError::BadVendor
        | OfpError::BadSubtype
        | OfpError::BadLength
        | OfpError::BadActionLength
        | OfpError::NxmInvalid
        | OfpError::NxmBadType
        | OfpError::NxmBadValue
        | OfpError::NxmBadMask
        | OfpError::NxmBadPrereq
        | OfpError::NxmDupType
        | OfpError::NxmBadWildcards => "the flow has no valid OpenFlow form",
    }
}
