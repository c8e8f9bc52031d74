//! Failures over HTTP: `application/problem+json` (RFC 9457) with the protocol's `code`.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::log::Unavailable;
use crate::protocol::ids::InvalidId;
use crate::protocol::{ErrorCode, Failure};

const PROBLEM_JSON: &str = "application/problem+json";

#[derive(Debug)]
pub(crate) struct Problem(pub Failure);

/// The body of a failed request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemBody {
    /// Always `about:blank`; `code` identifies the kind of failure.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The problem, and what to do about it.
    detail: String,
    /// The protocol's code.
    #[schema(value_type = String, example = "forbidden")]
    code: ErrorCode,
    /// The number of milliseconds after which to try again, if that can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self(error.into())
    }
}

impl From<Unavailable> for Problem {
    fn from(_: Unavailable) -> Self {
        Self(Failure::unavailable())
    }
}

/// The same line for every route: `responses(…, Problem)`.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let schema = Ref::from_schema_name(ProblemBody::name());
        let response = ResponseBuilder::new()
            .description("Why it failed")
            .content(PROBLEM_JSON, ContentBuilder::new().schema(Some(schema)).build())
            .build();
        BTreeMap::from([("default".to_owned(), response.into())])
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status());
        self.with_status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

impl Problem {
    /// Responds with another status than that of the code.
    pub(crate) fn with_status(self, status: StatusCode) -> Response {
        let Failure { code, message, retry_after_ms } = self.0;
        let body = ProblemBody {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: message,
            code,
            retry_after_ms,
        };
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = retry_after_ms {
            headers.insert(header::RETRY_AFTER, after.div_ceil(1000).into());
        }
        response
    }
}

/// The reason why one item of a request with several failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemError {
    /// The protocol's code.
    #[schema(value_type = String)]
    code: ErrorCode,
    /// The problem, and what to do about it.
    message: String,
    /// The number of milliseconds after which to try again, if that can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl From<Failure> for ItemError {
    fn from(failure: Failure) -> Self {
        let Failure { code, message, retry_after_ms, .. } = failure;
        Self { code, message, retry_after_ms }
    }
}
