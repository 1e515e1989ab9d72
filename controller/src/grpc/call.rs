//! One call: from the HTTP request to the HTTP response.

use super::{Frame, Frames, PREFIX};
use bytes::{Buf, Bytes};
use futures::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use hyper::body::{self, Body, Incoming};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time;
use tonic::{Status, metadata::MetadataMap};

/// Requests are names and tokens.
const MAX_REQUEST: usize = 64 * 1024;
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// The methods of one gRPC service, all of which take one message.
pub trait Methods: Send + Sync + 'static {
    /// Full name of the service.
    const NAME: &'static str;

    /// The method of that name.
    fn method(name: &str) -> Option<Method<Self>>;
}

/// Decodes a request and answers it.
pub enum Method<S: ?Sized> {
    /// With messages, as there are any.
    Stream(fn(&S, Bytes) -> Result<Frames, Status>),
    /// With one message, once it is worked out.
    Unary(fn(&S, Bytes) -> Pending),
}

/// The answer to a unary call. Dropped when the client gives up.
pub type Pending = BoxFuture<'static, Result<Reply, Status>>;

/// The answer to a unary call, when it is there.
pub struct Reply {
    /// The message.
    pub frame: Frame,
    /// Sent before it.
    pub metadata: MetadataMap,
}

/// Some gRPC services on one address.
#[derive(Default)]
pub struct Services(Vec<(&'static str, Box<dyn Call>)>);

/// Methods of whatever service.
trait Call: Send + Sync {
    /// `None`: there is no such method.
    fn call(&self, method: &str, message: Bytes) -> Option<Result<Answer, Status>>;
}

/// What comes of a call.
enum Answer {
    Stream(Frames),
    Unary(Pending),
}

/// The messages of an answer, then how it ended; `None` after that.
#[derive(Default)]
pub(super) struct Messages(Option<Frames>);

impl Services {
    /// Serves these methods, too.
    pub fn with<S: Methods>(mut self, methods: S) -> Self {
        self.0.push((S::NAME, Box::new(methods)));
        self
    }

    /// Finds a method by its path, `/SERVICE/METHOD`, and calls it.
    fn call(&self, path: &str, message: Bytes) -> Result<Answer, Status> {
        let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let found = parts.and_then(|(service, method)| {
            let mut services = self.0.iter();
            let (_, methods) = services.find(|(name, _)| *name == service)?;
            methods.call(method, message)
        });
        found.unwrap_or_else(|| Err(Status::unimplemented(format!("no method {path:?}"))))
    }
}

impl<S: Methods> Call for S {
    fn call(&self, method: &str, message: Bytes) -> Option<Result<Answer, Status>> {
        Some(match S::method(method)? {
            Method::Stream(method) => method(self, message).map(Answer::Stream),
            Method::Unary(method) => Ok(Answer::Unary(method(self, message))),
        })
    }
}

/// Decodes a request.
///
/// # Errors
/// `InvalidArgument` when it is not such a message.
pub fn decode<M: prost::Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Answers one call.
pub(super) async fn respond(services: &Services, request: Request<Incoming>) -> Response<Messages> {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        let mut response = Response::new(Messages::default());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let (head, body) = request.into_parts();
    let message = message(body).await;
    let answer = message.and_then(|message| services.call(head.uri.path(), message));
    let answered = match answer {
        Ok(Answer::Stream(frames)) => Ok(response(frames, MetadataMap::new())),
        Ok(Answer::Unary(pending)) => pending.await.map(unary),
        Err(status) => Err(status),
    };
    answered.unwrap_or_else(Status::into_http)
}

/// The one message of a request.
async fn message(body: Incoming) -> Result<Bytes, Status> {
    let body = time::timeout(REQUEST_DEADLINE, Limited::new(body, MAX_REQUEST).collect()).await;
    let body = body.map_err(|_| Status::deadline_exceeded("the request did not come in time"))?;
    let body = body.map_err(|error| Status::invalid_argument(error.to_string()))?;
    unframe(body.to_bytes())
}

fn unframe(mut body: Bytes) -> Result<Bytes, Status> {
    if body.len() < PREFIX {
        return Err(Status::invalid_argument("the request has no message"));
    }
    if body.get_u8() != 0 {
        return Err(Status::unimplemented("compressed requests are not taken"));
    }
    let length = body.get_u32();
    if usize::try_from(length).ok() != Some(body.len()) {
        return Err(Status::invalid_argument("the request is not one message"));
    }
    Ok(body)
}

fn unary(Reply { frame, metadata }: Reply) -> Response<Messages> {
    response(Box::pin(stream::once(async { Ok(frame) })), metadata)
}

fn response(frames: Frames, metadata: MetadataMap) -> Response<Messages> {
    let mut response = Response::new(Messages(Some(frames)));
    *response.headers_mut() = metadata.into_headers();
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<body::Frame<Bytes>, Infallible>>> {
        let Some(frames) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = match ready!(frames.poll_next_unpin(cx)) {
            Some(Ok(Frame(bytes))) => body::Frame::data(bytes),
            end => {
                let status = end.and_then(Result::err).unwrap_or_else(|| Status::ok(""));
                self.0 = None;
                body::Frame::trailers(trailers(&status))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails for messages that no header can carry, which tonic escapes.
    if let Err(error) = status.add_header(&mut trailers) {
        tracing::error!(%error, "cannot encode a status");
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;
    use linkerd2_proxy_api::inbound::PortSpec;
    use tonic::Code;

    struct Echo;

    impl Methods for Echo {
        const NAME: &'static str = "test.Echo";

        fn method(name: &str) -> Option<Method<Self>> {
            (name == "Port").then_some(Method::Stream(|_, request| {
                let spec: PortSpec = decode(request)?;
                Ok(futures::stream::once(async move { Ok(Frame::of(&spec)) }).boxed())
            }))
        }
    }

    #[test]
    fn a_request_is_one_plain_message() {
        let Frame(whole) = Frame::of(&PortSpec {
            workload: "demo:web-0".to_owned(),
            port: 80,
        });
        assert_eq!(
            unframe(whole.clone()).expect("a message"),
            whole.slice(PREFIX..)
        );
        let twice = [&whole[..], &whole[..]].concat();
        let compressed = [&[1], &whole[1..]].concat();
        let huge = vec![0, 255, 255, 255, 255];
        let table = [
            (vec![], Code::InvalidArgument),
            (vec![0; 4], Code::InvalidArgument),
            (whole[..whole.len() - 1].to_vec(), Code::InvalidArgument),
            (twice, Code::InvalidArgument),
            (huge, Code::InvalidArgument),
            (compressed, Code::Unimplemented),
        ];
        for (body, code) in table {
            let refused = unframe(body.clone().into()).expect_err("not a message");
            assert_eq!(refused.code(), code, "{body:?}");
        }
    }

    #[tokio::test]
    async fn methods_are_found_by_path() {
        let services = Services::default().with(Echo);
        let frames = services.call("/test.Echo/Port", Bytes::from_static(b"\x10\x50"));
        let Ok(Answer::Stream(frames)) = frames else {
            panic!("not a stream");
        };
        let frames: Vec<_> = frames.collect().await;
        let Frame(bytes) = frames[0].as_ref().expect("a message");
        assert_eq!(&bytes[..], b"\0\0\0\0\x02\x10\x50");
        let garbage = services.call("/test.Echo/Port", Bytes::from_static(b"\xff"));
        assert_eq!(garbage.err().map(|s| s.code()), Some(Code::InvalidArgument));
        for path in [
            "/test.Echo/Other",
            "/test.Other/Port",
            "/",
            "",
            "/test.Echo/Port/x",
        ] {
            let refused = services.call(path, Bytes::new());
            assert_eq!(
                refused.err().map(|s| s.code()),
                Some(Code::Unimplemented),
                "{path}"
            );
        }
    }
}
