//! The web page: files in the binary, so that it works without anything else, under a policy that lets it load nothing
//! from elsewhere.

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};

use super::Api;

/// `(path, content type, content)`.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/page/app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("/page/client.js", "text/javascript; charset=utf-8", include_str!("page/client.js")),
    ("/page/views.js", "text/javascript; charset=utf-8", include_str!("page/views.js")),
    ("/page/search.js", "text/javascript; charset=utf-8", include_str!("page/search.js")),
    ("/page/topology.js", "text/javascript; charset=utf-8", include_str!("page/topology.js")),
    ("/page/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// The page may load its own files, talk to its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's files.
pub(super) fn router() -> Router<Api> {
    FILES.iter().fold(Router::new(), |router, (path, kind, content)| {
        let file = move || async move { ([(header::CONTENT_TYPE, *kind)], *content).into_response() };
        router.route(path, get(file))
    })
}

/// Adds the headers that every response has.
pub(super) async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
