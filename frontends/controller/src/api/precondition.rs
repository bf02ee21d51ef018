//! Entity tags, and what is done only if one holds (RFC 9110 sections 8.8.3 and 13).
//!
//! A tag is strong: a digest of the representation, behind the revision of the record that a change would replace. A reader
//! compares all of it, so nothing that is shown can change unseen, be it live, from the configuration file, or of another
//! record. The change of a record compares the revision: that a vNIC has confirmed a flow, or a network has got a member, is no reason to
//! refuse a change of what has stayed as it was.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};
use serde::Serialize;
use utoipa::{
    IntoParams, PartialSchema as _,
    openapi::{
        ContentBuilder, Header, OpenApi, Ref, RefOr, ResponseBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::problem::Problem;
use crate::store::Revision;

/// The name of that header in the API's document; who takes it takes preconditions.
const IF_NONE_MATCH: &str = "If-None-Match";

/// A strong entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag {
    /// Of the record that a change would replace; `None`: it would replace all that is shown, or nothing.
    revision: Option<Revision>,
    /// Of the representation.
    digest: u64,
}

impl ETag {
    fn of(revision: Option<Revision>, representation: &[u8]) -> Self {
        let digest = digest(&SHA256, representation);
        let first = digest.as_ref().iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
        Self { revision, digest: first }
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(revision) = self.revision {
            write!(f, "{revision}-")?;
        }
        write!(f, "{:016x}", self.digest)
    }
}

impl IntoResponseParts for ETag {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Self::Error> {
        // Digits in quotation marks are a header value.
        if let Ok(value) = HeaderValue::from_str(&format!("\"{self}\"")) {
            response.headers_mut().insert(header::ETAG, value);
        }
        Ok(response)
    }
}

/// A representation of desired state, with its entity tag.
pub struct Document {
    /// Its tag.
    pub tag: ETag,
    kind: &'static str,
    content: Vec<u8>,
}

impl Document {
    /// A list, as JSON.
    pub fn list(value: &[impl Serialize]) -> Self {
        Self::new(None, "application/json", json(value))
    }

    /// A record, last changed by `revision`, as JSON.
    pub fn record(revision: Revision, value: &impl Serialize) -> Self {
        Self::new(Some(revision), "application/json", json(value))
    }

    /// The same with a text.
    pub fn new(revision: Option<Revision>, kind: &'static str, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        Self { tag: ETag::of(revision, &content), kind, content }
    }
}

/// A document of our own types always has a JSON form.
fn json(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        (self.tag, [(header::CONTENT_TYPE, self.kind)], self.content).into_response()
    }
}

/// A request's If-Match and If-None-Match headers (RFC 9110 sections 13.1.1 and 13.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<Tag>),
}

/// A tag as a client writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    opaque: String,
}

impl Tag {
    /// Whether it was given to something that this revision has written; a revision alone is such a tag, too.
    fn is_of(&self, revision: Revision) -> bool {
        let (written, _) = self.opaque.split_once('-').unwrap_or((&self.opaque, ""));
        written == revision.to_string()
    }
}

impl Tags {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        if rest == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        // A list may have empty elements (RFC 9110 section 5.6.1), and a tag commas.
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return (!tags.is_empty()).then_some(Self::These(tags));
            }
            let weak = rest.starts_with("W/");
            let (opaque, behind) = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
            tags.push(Tag { weak, opaque: opaque.to_owned() });
            rest = behind.trim_start_matches([' ', '\t']);
            if !rest.is_empty() && !rest.starts_with(',') {
                return None;
            }
        }
    }

    fn any(&self, good: impl Fn(&Tag) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(good),
        }
    }
}

impl Precondition {
    /// Whether a record of this revision (`None`: there is none) may be changed.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, revision: Option<Revision>) -> Result<(), Problem> {
        let now = revision.map_or_else(|| "it does not exist".to_owned(), |at| format!("its revision is {at}"));
        self.hold(revision.is_some(), &now, |tag| revision.is_some_and(|revision| tag.is_of(revision)))
    }

    /// Whether what is shown so may be changed as a whole.
    ///
    /// # Errors
    /// It may not.
    pub fn check_whole(&self, present: ETag) -> Result<(), Problem> {
        let present = present.to_string();
        self.hold(true, &format!("its entity tag is \"{present}\""), |tag| tag.opaque == present)
    }

    /// If-Match compares strongly, If-None-Match weakly (RFC 9110 section 8.8.3.2).
    fn hold(&self, exists: bool, now: &str, same: impl Fn(&Tag) -> bool) -> Result<(), Problem> {
        if self.if_match.as_ref().is_some_and(|tags| !exists || !tags.any(|tag| !tag.weak && same(tag))) {
            return Err(Problem::precondition_failed(format!("{now}: read it again, then change it")));
        }
        if self.if_none_match.as_ref().is_some_and(|tags| exists && tags.any(same)) {
            return Err(Problem::precondition_failed(format!("{now}: change it, or use another name")));
        }
        Ok(())
    }

    /// The answer to who reads: the document, or 304 if the asker has it already.
    ///
    /// # Errors
    /// The asker wants another one (If-Match).
    pub fn read(&self, document: Document) -> Result<Response, Problem> {
        let now = document.tag.to_string();
        if self.if_match.as_ref().is_some_and(|tags| !tags.any(|tag| !tag.weak && tag.opaque == now)) {
            return Err(Problem::precondition_failed(format!("its entity tag is \"{now}\"")));
        }
        if self.if_none_match.as_ref().is_some_and(|tags| tags.any(|tag| tag.opaque == now)) {
            return Ok((StatusCode::NOT_MODIFIED, document.tag, ()).into_response());
        }
        Ok(document.into_response())
    }
}

impl<S: Sync> FromRequestParts<S> for Precondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let tags = |name: HeaderName| {
            let wrong = || Problem::bad_request(format!("{name} must be \"*\", or entity tags in quotation marks"));
            let lines = parts.headers.get_all(&name).iter().map(|line| line.to_str().map_err(|_| wrong()));
            let lines = lines.collect::<Result<Vec<_>, _>>()?;
            if lines.is_empty() {
                return Ok(None);
            }
            Tags::parse(&lines.join(",")).map(Some).ok_or_else(wrong)
        };
        Ok(Self { if_match: tags(header::IF_MATCH)?, if_none_match: tags(header::IF_NONE_MATCH)? })
    }
}

impl IntoParams for Precondition {
    fn into_params(_place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = |name: &str, meaning: &str| {
            let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header);
            parameter.description(Some(meaning)).schema(Some(String::schema())).build()
        };
        vec![
            parameter(
                "If-Match",
                "Only if this is the present entity tag, else 412. The change of a record compares the tag's \
                 first part, the `revision`, which alone in quotation marks will do.",
            ),
            parameter(
                IF_NONE_MATCH,
                "Reading: 304 without a body if this is the present entity tag. Changing, with `*`: 412 if there is one.",
            ),
        ]
    }
}

/// Says of every operation that takes preconditions what they lead to.
pub(super) fn document(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
            describe(operation, None);
        }
        if let Some(operation) = &mut item.get {
            describe(operation, Some("The asker has it already."));
        }
    }
}

/// `known`: what 304 means.
fn describe(operation: &mut Operation, known: Option<&str>) {
    let conditional =
        |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(one) if one.name == IF_NONE_MATCH);
    if !operation.parameters.iter().flatten().any(conditional) {
        return;
    }
    let mut tag = Header::new(String::schema());
    tag.description = Some("A strong entity tag.".to_owned());
    let answers = &mut operation.responses.responses;
    for (status, answer) in answers.iter_mut() {
        if let (true, RefOr::T(answer)) = (["200", "201"].contains(&status.as_str()), answer) {
            answer.headers.insert("ETag".to_owned(), tag.clone().into());
        }
    }
    if let Some(known) = known {
        let known = ResponseBuilder::new().description(known).header("ETag", tag);
        answers.insert("304".to_owned(), known.build().into());
    }
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let failed = ResponseBuilder::new().description("A precondition does not hold.");
    answers.insert("412".to_owned(), failed.content("application/problem+json", problem).build().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(if_match: Option<&str>, if_none_match: Option<&str>) -> Precondition {
        let tags = |text: Option<&str>| text.map(|text| Tags::parse(text).unwrap());
        Precondition { if_match: tags(if_match), if_none_match: tags(if_none_match) }
    }

    #[test]
    fn tags() {
        assert_eq!(Tags::parse(" * "), Some(Tags::Any));
        let tag = |weak, opaque: &str| Tag { weak, opaque: opaque.to_owned() };
        let these = Tags::These(vec![tag(false, "1"), tag(true, "22-ab"), tag(false, "x,y")]);
        assert_eq!(Tags::parse("\"1\", W/\"22-ab\",\"x,y\""), Some(these.clone()));
        assert_eq!(Tags::parse(",\"1\", ,W/\"22-ab\" ,\t\"x,y\","), Some(these));
        for bad in ["", ",", "1", "\"1", "\"1\" \"2\"", "\"1\"2", "W/1", "w/\"1\"", "\"1\", *"] {
            assert_eq!(Tags::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn changes() {
        let allowed = |p: Precondition, revision| p.check(revision).is_ok();
        assert!(allowed(condition(None, None), None) && allowed(condition(None, None), Some(5)));
        for tag in ["\"5\"", "\"5-0123\"", "\"4\", \"5-0\""] {
            assert!(allowed(condition(Some(tag), None), Some(5)), "{tag}");
            assert!(!allowed(condition(None, Some(tag)), Some(5)), "{tag}");
        }
        for tag in ["\"4\"", "\"55-0\"", "W/\"5\"", "\"x\"", "\"-5\""] {
            assert!(!allowed(condition(Some(tag), None), Some(5)), "{tag}");
        }
        assert!(!allowed(condition(Some("\"5\""), None), None));
        assert!(!allowed(condition(None, Some("W/\"5\"")), Some(5)));
        assert!(!allowed(condition(Some("*"), None), None) && allowed(condition(Some("*"), None), Some(1)));
        assert!(allowed(condition(None, Some("*")), None) && !allowed(condition(None, Some("*")), Some(1)));
    }

    #[test]
    fn reading() {
        let answer = |p: Precondition| {
            let document = Document::new(Some(5), "text/plain", "abc");
            p.read(document).map_or_else(|problem| problem.status, |response| response.status().as_u16())
        };
        // The first eight bytes of SHA-256 of "abc" (FIPS 180-4, example).
        let tag = "5-ba7816bf8f01cfea";
        assert_eq!(Document::new(Some(5), "text/plain", "abc").tag.to_string(), tag);
        assert_eq!(Document::new(None, "text/plain", "abc").tag.to_string(), &tag[2..]);
        let (strong, weak) = (format!("\"{tag}\""), format!("W/\"{tag}\""));
        for known in [strong.as_str(), weak.as_str(), "*", &format!("\"1\", {weak}")] {
            assert_eq!(answer(condition(None, Some(known))), 304, "{known}");
        }
        for other in ["\"5\"", "\"5-ba7816bf8f01cfeb\"", "\"4-ba7816bf8f01cfea\""] {
            assert_eq!(answer(condition(None, Some(other))), 200, "a part of a tag is no tag: {other}");
            assert_eq!(answer(condition(Some(other), None)), 412, "{other}");
        }
        assert_eq!(answer(condition(Some(&weak), None)), 412, "compared strongly");
        assert_eq!(answer(condition(Some(&strong), None)), 200);
        assert_eq!(answer(condition(Some(&strong), Some(&strong))), 304);
    }
}
