//! Errors as RFC 9457 problem details.

use axum::{
    Json,
    extract::{
        FromRequest, Request,
        rejection::{JsonRejection, PathRejection, QueryRejection, StringRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    config::ConfigErrors,
    server::{EditError, Stopping},
    store::StoreError,
};

/// What went wrong, why, and how to put it right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:cvsw:problem:NAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// This occurrence in words.
    pub detail: String,
    /// What is wrong with which field of the desired state that would result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Which one: `networks/blue/mtu`.
    pub field: String,
    /// What is wrong.
    pub detail: String,
    /// How to put it right.
    pub help: String,
}

impl Problem {
    fn new(status: StatusCode, name: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:cvsw:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// The path has other methods.
    pub fn method_not_allowed() -> Self {
        let detail = "see /v1/openapi.json for the methods of this path";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "This cannot be done here", detail)
    }

    /// The request makes no sense.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request makes no sense", detail)
    }

    /// Who asks is not known.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Who are you?", detail)
    }

    /// Who asks may not do it.
    pub fn forbidden() -> Self {
        let detail = "this needs the role admin; you have the role reader";
        Self::new(StatusCode::FORBIDDEN, "forbidden", "You may not do this", detail)
    }

    /// The entity tag of the request is not the present one.
    pub fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "changed", "It is not as you think it is", detail)
    }

    /// It contradicts the present state.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "This contradicts the present state", detail)
    }

    /// The desired state that would result makes no sense.
    pub fn invalid(errors: &ConfigErrors) -> Self {
        let detail = match errors.0.as_slice() {
            [one] => format!("{}: {} ({})", one.field(), one.message, one.help),
            all => format!("{} fields are wrong; nothing was changed", all.len()),
        };
        let field = |diagnostic: &crate::config::Diagnostic| FieldError {
            field: diagnostic.field().to_owned(),
            detail: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        };
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let problem = Self::new(status, "invalid", "The desired state would make no sense", detail);
        Self { errors: errors.0.iter().map(field).collect(), ..problem }
    }

    fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "This cannot be done now", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer realm=\"cvsw\""));
        }
        response
    }
}

impl From<Stopping> for Problem {
    fn from(stopping: Stopping) -> Self {
        Self::unavailable(stopping.to_string())
    }
}

impl From<EditError<Self>> for Problem {
    fn from(error: EditError<Self>) -> Self {
        match error {
            EditError::Refused(problem) => problem,
            EditError::FromFile => Self::conflict(
                "the desired state is the configuration file: change that file, or start the controller with --store",
            ),
            EditError::Invalid(errors) => Self::invalid(&errors),
            EditError::Impossible(why) => Self::conflict(why),
            EditError::Store(error @ StoreError::Conflict(_)) => Self::precondition_failed(error.to_string()),
            EditError::Store(error @ StoreError::Unusable(_)) => Self::unavailable(error.to_string()),
            EditError::Stopping => Stopping.into(),
        }
    }
}

/// What a part of a request that cannot be read becomes.
macro_rules! problem_of {
    ($($rejection:ty),*) => {
        $(impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Self { status: rejection.status().as_u16(), ..Self::bad_request(rejection.body_text()) }
            }
        })*
    };
}
problem_of!(JsonRejection, PathRejection, QueryRejection, StringRejection);

/// As axum's [`Json`], with problem details for errors.
#[derive(axum::extract::FromRequest)]
#[from_request(via(Json), rejection(Problem))]
pub struct Body<T>(pub T);

/// A body that is a text, with problem details for errors.
pub struct Text(pub String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Ok(Self(String::from_request(request, state).await?))
    }
}

/// As axum's `Path`, with problem details for errors.
#[derive(axum::extract::FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct Path<T>(pub T);

/// As axum's `Query`, with problem details for errors.
#[derive(axum::extract::FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Params<T>(pub T);
