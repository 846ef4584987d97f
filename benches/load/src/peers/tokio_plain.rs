//! A relay on tokio-tungstenite as one writes it in a day: a task for each call, both sockets split,
//! events read with serde, everything else at its defaults.

mod setup;
mod tokio_setup;

use std::error::Error;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use setup::Setup;
use tokio::net::TcpStream;
use tokio_setup::{Failure, dial, serve};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{accept_async, client_async};

/// The events of the service that the relay acts on.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Event {
    #[serde(rename = "response.audio.delta")]
    Audio { delta: String },
    #[serde(rename = "input_audio_buffer.speech_started")]
    SpeechStarted,
    #[serde(rename = "response.audio_transcript.done")]
    Assistant { transcript: String },
    #[serde(rename = "conversation.item.input_audio_transcription.completed")]
    User { transcript: String },
    #[serde(rename = "error")]
    Error { error: serde_json::Value },
    #[serde(other)]
    Other,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    serve(call).await
}

async fn call(socket: TcpStream, setup: Arc<Setup>) -> Result<(), Failure> {
    let (to_client, from_client) = accept_async(socket).await?.split();
    let (stream, request) = dial(&setup).await?;
    let (service, _) = client_async(request, stream).await?;
    let (mut to_service, from_service) = service.split();
    to_service.send(Message::text(setup::session_update())).await?;

    tokio::select! {
        done = microphone(from_client, to_service) => done,
        done = reply(from_service, to_client) => done,
    }
}

async fn microphone(
    mut client: impl Stream<Item = Result<Message, WsError>> + Unpin,
    mut service: impl Sink<Message, Error = WsError> + Unpin,
) -> Result<(), Failure> {
    while let Some(message) = client.next().await {
        match message? {
            Message::Binary(pcm) => {
                let audio = STANDARD.encode(&pcm);
                let event = format!(r#"{{"type":"input_audio_buffer.append","audio":"{audio}"}}"#);
                service.send(Message::text(event)).await?;
            }
            Message::Close(_) => break,
            _ => {}
        }
    }
    Ok(service.close().await?)
}

async fn reply(
    mut service: impl Stream<Item = Result<Message, WsError>> + Unpin,
    mut client: impl Sink<Message, Error = WsError> + Unpin,
) -> Result<(), Failure> {
    while let Some(message) = service.next().await {
        match message? {
            Message::Text(text) => {
                if let Some(message) = translate(&text)? {
                    client.send(message).await?;
                }
            }
            Message::Close(_) => break,
            _ => {}
        }
    }
    client.send(state_ended()).await?;
    Ok(client.close().await?)
}

fn translate(text: &Utf8Bytes) -> Result<Option<Message>, Failure> {
    Ok(match serde_json::from_str(text)? {
        Event::Audio { delta } => Some(Message::binary(STANDARD.decode(delta)?)),
        Event::SpeechStarted => Some(json_message(&json!({"type": "speech_started"}))),
        Event::Assistant { transcript } => Some(said("assistant", &transcript)),
        Event::User { transcript } => Some(said("user", &transcript)),
        Event::Error { error } => {
            eprintln!("the service reports {error}");
            None
        }
        Event::Other => None,
    })
}

fn said(role: &str, text: &str) -> Message {
    json_message(&json!({"type": "transcript", "role": role, "text": text}))
}

fn state_ended() -> Message {
    json_message(&json!({"type": "call_state", "state": "ended"}))
}

fn json_message(value: &serde_json::Value) -> Message {
    Message::text(value.to_string())
}
