//! Entity tags: each record's tag is the revision that wrote it last.

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};

use super::problem::Problem;
use crate::store::Revision;

/// A response's ETag header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag(pub Revision);

impl IntoResponseParts for ETag {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Self::Error> {
        // Digits in quotation marks are a header value.
        if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", self.0)) {
            response.headers_mut().insert(header::ETAG, value);
        }
        Ok(response)
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
    These(Vec<Revision>),
}

impl Tags {
    fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Any);
        }
        let tag = |tag: &str| {
            let tag = tag.trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            // A tag that we have not given matches nothing, which is what revision 0 does.
            Some(tag.strip_prefix('"')?.strip_suffix('"')?.parse().unwrap_or(0))
        };
        Some(Self::These(text.split(',').map(tag).collect::<Option<_>>()?))
    }

    fn contain(&self, revision: Option<Revision>) -> bool {
        match (self, revision) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(tags), Some(revision)) => tags.contains(&revision),
        }
    }
}

impl Precondition {
    /// Whether a record of this revision (`None`: there is none) may be changed.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, revision: Option<Revision>) -> Result<(), Problem> {
        let now =
            revision.map_or_else(|| "it does not exist".to_owned(), |at| format!("its entity tag is \"{at}\""));
        if self.if_match.as_ref().is_some_and(|tags| !tags.contain(revision)) {
            return Err(Problem::precondition_failed(format!("{now}: read it again, then change it")));
        }
        if self.if_none_match.as_ref().is_some_and(|tags| tags.contain(revision)) {
            return Err(Problem::precondition_failed(format!("{now}: change it, or use another name")));
        }
        Ok(())
    }

    /// Whether the asker has this revision already.
    pub fn is_known(&self, revision: Revision) -> bool {
        self.if_none_match.as_ref().is_some_and(|tags| tags.contain(Some(revision)))
    }
}

impl<S: Sync> FromRequestParts<S> for Precondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let tags = |name: HeaderName| match parts.headers.get(&name) {
            None => Ok(None),
            Some(value) => value.to_str().ok().and_then(Tags::parse).map(Some).ok_or_else(|| {
                Problem::bad_request(format!("{name} must be \"*\", or entity tags in quotation marks"))
            }),
        };
        Ok(Self { if_match: tags(header::IF_MATCH)?, if_none_match: tags(header::IF_NONE_MATCH)? })
    }
}

/// A document with its entity tag; 304 if the asker has it already.
pub fn tagged(precondition: &Precondition, revision: Revision, body: impl IntoResponse) -> Response {
    if precondition.is_known(revision) {
        return (axum::http::StatusCode::NOT_MODIFIED, ETag(revision), ()).into_response();
    }
    (ETag(revision), body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(Tags::parse("*"), Some(Tags::Any));
        assert_eq!(Tags::parse("\"1\", W/\"22\",\"x\""), Some(Tags::These(vec![1, 22, 0])));
        for bad in ["", "1", "\"1", "\"1\",", "W/1"] {
            assert_eq!(Tags::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn preconditions() {
        let of = |a: Option<&str>, b: Option<&str>| Precondition {
            if_match: a.and_then(Tags::parse),
            if_none_match: b.and_then(Tags::parse),
        };
        let allowed = |p: Precondition, revision| p.check(revision).is_ok();
        assert!(allowed(of(None, None), None) && allowed(of(None, None), Some(5)));
        assert!(allowed(of(Some("\"5\""), None), Some(5)));
        assert!(!allowed(of(Some("\"4\""), None), Some(5)));
        assert!(!allowed(of(Some("\"5\""), None), None));
        assert!(!allowed(of(Some("*"), None), None) && allowed(of(Some("*"), None), Some(1)));
        assert!(allowed(of(None, Some("*")), None) && !allowed(of(None, Some("*")), Some(1)));
    }
}
