//! The admin listener: health and metrics over HTTP/1.1.
//!
//! | path | answer |
//! | --- | --- |
//! | `/livez` | 200 while the process serves at all |
//! | `/readyz`, `/healthz`, `/v1/status/ready` | 200 once clients are served, 503 before and while draining |
//! | `/metrics`, `/public_metrics` | OpenMetrics text |

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::{Broker, scrape};
use crate::env::{Listener, Stream};

/// Admin connections served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// Accepts admin connections until the broker drops the task.
pub async fn serve(broker: Arc<Broker>, mut listener: Box<dyn Listener>) {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let answering = broker.clone();
                let connection = async move {
                    answer_connection(answering, stream).await;
                    drop(permit);
                };
                broker.env.spawn("admin-connection", connection).detach();
            }
            Err(error) => {
                tracing::warn!(%error, "admin connection not accepted");
                broker
                    .env
                    .sleep(std::time::Duration::from_millis(100))
                    .await;
            }
        }
    }
}

async fn answer_connection(broker: Arc<Broker>, stream: Box<dyn Stream>) {
    let service = service_fn(|request| {
        let broker = broker.clone();
        async move { Ok::<_, Infallible>(answer(&broker, &request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "admin connection ended");
    }
}

async fn answer(broker: &Arc<Broker>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is served here\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" | "/healthz" => match broker.readiness() {
            Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/v1/status/ready" => match broker.readiness() {
            Ok(()) => json(StatusCode::OK, "{\"status\":\"ready\"}\n"),
            Err(_) => json(
                StatusCode::SERVICE_UNAVAILABLE,
                "{\"status\":\"booting\"}\n",
            ),
        },
        "/metrics" | "/public_metrics" => match scrape::metrics_text(broker).await {
            Ok(body) => typed(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body,
            ),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        path => text(
            StatusCode::NOT_FOUND,
            format!("nothing at {path}: try /livez, /readyz or /metrics\n"),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn json(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    typed(status, "application/json", body.to_owned())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
