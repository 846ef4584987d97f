//! The tokio relay after profiling: one thread, small WebSocket buffers, no split (its lock costs),
//! no JSON for audio, frames built in a reused buffer, and one flush for all that is ready at once.

mod setup;
mod tokio_setup;

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream};
use serde_json::{Value, json};
use setup::Setup;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_setup::{Failure, dial, serve};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

const APPEND_HEAD: &[u8] = br#"{"type":"input_audio_buffer.append","audio":""#;
const APPEND_TAIL: &[u8] = br#""}"#;

/// Messages taken from one side before the other gets its turn.
const TURN: usize = 64;

fn config(read: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read)
        .write_buffer_size(16 * 1_024)
        .max_write_buffer_size(4 * 1_024 * 1_024)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    serve(call).await
}

async fn call(socket: TcpStream, setup: Arc<Setup>) -> Result<(), Failure> {
    let client = accept_async_with_config(socket, Some(config(4 * 1_024))).await?;
    let (stream, request) = dial(&setup).await?;
    let (mut service, _) =
        client_async_with_config(request, stream, Some(config(8 * 1_024))).await?;
    service.send(Message::text(setup::session_update())).await?;
    let mut relay = Relay { client, service, scratch: BytesMut::with_capacity(4_096) };
    let outcome = poll_fn(|context| relay.poll(context)).await;
    // The other side may be gone already.
    let _ = relay.client.send(json_message(&json!({"type": "call_state", "state": "ended"}))).await;
    let _ = relay.client.close(None).await;
    let _ = relay.service.close(None).await;
    outcome
}

struct Relay {
    client: WebSocketStream<TcpStream>,
    service: WebSocketStream<TlsStream<TcpStream>>,
    scratch: BytesMut,
}

impl Relay {
    /// Goes as far as both sockets allow; ready at the call's end.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let (mut heard, mut said) = (0, 0);
        loop {
            let ear = self.microphone(context, &mut heard);
            let mouth = self.reply(context, &mut said);
            match (ear, mouth) {
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                    return Poll::Ready(Err(error));
                }
                (Poll::Ready(Ok(false)), _) | (_, Poll::Ready(Ok(false))) => {
                    return Poll::Ready(Ok(()));
                }
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                // A turn is used up: let the others have theirs.
                _ if heard >= TURN || said >= TURN => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                _ => {}
            }
        }
    }

    /// Client to service. Ready with false at the end, with true after a turn.
    fn microphone(
        &mut self,
        context: &mut Context<'_>,
        count: &mut usize,
    ) -> Poll<Result<bool, Failure>> {
        let mut service = Pin::new(&mut self.service);
        while *count < TURN {
            ready!(service.as_mut().poll_ready(context))?;
            let Poll::Ready(message) = Pin::new(&mut self.client).poll_next(context) else {
                let _ = service.as_mut().poll_flush(context)?;
                return Poll::Pending;
            };
            *count += 1;
            match message.transpose()? {
                Some(Message::Binary(pcm)) => {
                    service.as_mut().start_send(append(&pcm, &mut self.scratch)?)?;
                }
                Some(Message::Close(_)) | None => return Poll::Ready(Ok(false)),
                Some(_) => {}
            }
        }
        let _ = service.as_mut().poll_flush(context)?;
        Poll::Ready(Ok(true))
    }

    /// Service to client, likewise.
    fn reply(
        &mut self,
        context: &mut Context<'_>,
        count: &mut usize,
    ) -> Poll<Result<bool, Failure>> {
        let mut client = Pin::new(&mut self.client);
        while *count < TURN {
            ready!(client.as_mut().poll_ready(context))?;
            let Poll::Ready(message) = Pin::new(&mut self.service).poll_next(context) else {
                let _ = client.as_mut().poll_flush(context)?;
                return Poll::Pending;
            };
            *count += 1;
            match message.transpose()? {
                Some(Message::Text(event)) => {
                    if let Some(message) = translate(&event, &mut self.scratch)? {
                        client.as_mut().start_send(message)?;
                    }
                }
                Some(Message::Close(_)) | None => return Poll::Ready(Ok(false)),
                Some(_) => {}
            }
        }
        let _ = client.as_mut().poll_flush(context)?;
        Poll::Ready(Ok(true))
    }
}

fn append(pcm: &[u8], scratch: &mut BytesMut) -> Result<Message, Failure> {
    scratch.clear();
    scratch.extend_from_slice(APPEND_HEAD);
    let text = scratch.len();
    scratch.resize(text + pcm.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(pcm, &mut scratch[text..])?;
    scratch.extend_from_slice(APPEND_TAIL);
    Ok(Message::Text(Utf8Bytes::try_from(scratch.split().freeze())?))
}

fn translate(event: &Utf8Bytes, scratch: &mut BytesMut) -> Result<Option<Message>, Failure> {
    if let Some(base64) = audio(event) {
        scratch.clear();
        scratch.resize(base64.len() / 4 * 3 + 3, 0);
        let bytes = STANDARD.decode_slice(base64, scratch)?;
        scratch.truncate(bytes);
        let pcm: Bytes = scratch.split().freeze();
        return Ok(Some(Message::Binary(pcm)));
    }
    let event: Value = serde_json::from_str(event)?;
    Ok(match event["type"].as_str().unwrap_or_default() {
        // An audio delta in a spelling that the quick look does not know.
        "response.audio.delta" => {
            Some(Message::binary(STANDARD.decode(event["delta"].as_str().unwrap_or_default())?))
        }
        "input_audio_buffer.speech_started" => {
            Some(json_message(&json!({"type": "speech_started"})))
        }
        "response.audio_transcript.done" => Some(transcript("assistant", &event)),
        "conversation.item.input_audio_transcription.completed" => Some(transcript("user", &event)),
        "error" => {
            eprintln!("the service reports {}", event["error"]);
            None
        }
        _ => None,
    })
}

/// The base64 of an audio delta that has its keys in the service's usual order.
fn audio(event: &str) -> Option<&str> {
    let rest = event.strip_prefix(r#"{"type":"response.audio.delta","#)?;
    let text = &rest[memchr::memmem::find(rest.as_bytes(), br#""delta":""#)? + 9..];
    let base64 = &text[..memchr::memchr(b'"', text.as_bytes())?];
    (!base64.contains('\\')).then_some(base64)
}

fn transcript(role: &str, event: &Value) -> Message {
    json_message(&json!({"type": "transcript", "role": role, "text": event["transcript"]}))
}

fn json_message(value: &Value) -> Message {
    Message::text(value.to_string())
}
