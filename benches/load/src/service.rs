//! The stand-in for the service: TLS, WebSocket, and as little else as possible, so that its cost
//! does not hide the relay's. Every `input_audio_buffer.append` is answered at once by a
//! `response.audio.delta` with the same base64; nothing is decoded.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use memchr::memmem;
use mio::net::TcpStream;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use serde_json::{Value, json};

use crate::frame;

pub(crate) const CREATED: &str = r#"{"type":"session.created","event_id":"event_BGn1wOZ4Y3q7VQ0s","session":{"id":"sess_BGn1wPq0HcXtm5E2","model":"gpt-realtime-mini","modalities":["text","audio"]}}"#;
pub(crate) const UPDATED: &str = r#"{"type":"session.updated","event_id":"event_BGn1wRf7jK2eWc9d","session":{"id":"sess_BGn1wPq0HcXtm5E2","model":"gpt-realtime-mini","modalities":["text","audio"],"input_audio_format":"pcm16","output_audio_format":"pcm16","turn_detection":{"type":"server_vad","auto_truncate":true}}}"#;
pub(crate) const DELTA_HEAD: &str = r#"{"type":"response.audio.delta","event_id":"event_BGn2AbCdEfGhIjKl","response_id":"resp_BGn1xZyXwVuTsRqP","item_id":"item_BGn1xLmNoPqRsTuV","output_index":0,"content_index":0,"delta":""#;
pub(crate) const DELTA_TAIL: &str = r#""}"#;

/// One relay's connection to us.
pub(crate) struct Service {
    pub(crate) socket: TcpStream,
    tls: ServerConnection,
    /// Decrypted bytes that are no whole message yet.
    inbox: Vec<u8>,
    /// Encrypted bytes that the kernel did not take yet.
    outbox: Vec<u8>,
    upgraded: bool,
    /// `session.updated` was sent.
    pub(crate) configured: bool,
    /// When the model has called a tool whose result has not come.
    called: Option<Instant>,
    /// How many tools it has called.
    calls: u64,
    /// The last result came so long after its call, in nanoseconds, and the relay has asked for an answer.
    pub(crate) round_trip: Option<u64>,
}

impl Service {
    pub(crate) fn new(socket: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        let (inbox, outbox) = (Vec::new(), Vec::new());
        Ok(Self {
            socket,
            tls,
            inbox,
            outbox,
            upgraded: false,
            configured: false,
            called: None,
            calls: 0,
            round_trip: None,
        })
    }

    /// Whether the handshake took up an earlier session; `None` before its end.
    pub(crate) fn resumed(&self) -> Option<bool> {
        self.tls.handshake_kind().map(|kind| kind == HandshakeKind::Resumed)
    }

    /// The poll reported it readable: reads all there is and answers. False at its end.
    pub(crate) fn readable(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            let count = match self.socket.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            self.decrypt(&buffer[..count])?;
            if count < buffer.len() {
                break;
            }
        }
        let open = self.take_messages()?;
        self.flush()?;
        Ok(open)
    }

    fn decrypt(&mut self, mut wire: &[u8]) -> io::Result<()> {
        while !wire.is_empty() {
            self.tls.read_tls(&mut wire)?;
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            let old = self.inbox.len();
            self.inbox.resize(old + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut self.inbox[old..])?;
        }
        Ok(())
    }

    fn take_messages(&mut self) -> io::Result<bool> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut at = 0;
        let mut open = true;
        if !self.upgraded
            && let Some(end) = frame::head_end(&inbox)
        {
            let head = String::from_utf8_lossy(&inbox[..end]);
            let answer = frame::upgrade(&head).ok_or_else(|| io::Error::other("no upgrade"))?;
            self.tls.writer().write_all(answer.as_bytes())?;
            self.upgraded = true;
            self.say(CREATED)?;
            at = end;
        }
        while self.upgraded && open {
            let Some(head) = frame::Head::parse(&inbox[at..]) else { break };
            let (start, end) = (at + head.bytes, at + head.bytes + head.payload);
            if inbox.len() < end {
                break;
            }
            if !head.fin {
                return Err(io::Error::other("a fragmented message"));
            }
            let payload = &mut inbox[start..end];
            frame::mask(payload, head.mask.unwrap_or_default());
            open = self.take(head.opcode, payload)?;
            at = end;
        }
        inbox.drain(..at);
        self.inbox = inbox;
        Ok(open)
    }

    fn take(&mut self, opcode: u8, payload: &[u8]) -> io::Result<bool> {
        match opcode {
            frame::TEXT | frame::BINARY => self.event(payload)?,
            frame::PING => self.message(frame::PONG, &[payload])?,
            frame::CLOSE => {
                self.message(frame::CLOSE, &[payload])?;
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    fn event(&mut self, event: &[u8]) -> io::Result<()> {
        if let Some(audio) = appended(event) {
            return self
                .message(frame::TEXT, &[DELTA_HEAD.as_bytes(), audio, DELTA_TAIL.as_bytes()]);
        }
        if memmem::find(event, b"\"function_call_output\"").is_some() {
            if let Some(called) = self.called.take() {
                self.round_trip = Some(called.elapsed().as_nanos() as u64);
            }
            return Ok(());
        }
        if memmem::find(event, b"\"session.update\"").is_some() {
            self.configured = true;
            self.say(UPDATED)?;
        }
        Ok(())
    }

    /// A response that calls a built-in tool and nothing else. It leaves in one go.
    pub(crate) fn call_tool(&mut self) -> io::Result<()> {
        self.calls += 1;
        let (at, name) = (self.calls, "get_stock_price");
        let (response, item, call) =
            (format!("resp_{at}"), format!("item_{at}"), format!("call_{at}"));
        let place = json!({"response_id": response, "item_id": item, "output_index": 0});
        let arguments = "{\"symbol\":\"MSFT\"}";
        let whole = json!({"id": item, "type": "function_call", "status": "completed", "name": name,
            "call_id": call, "arguments": arguments});
        let mut empty = whole.clone();
        (empty["arguments"], empty["status"]) = ("".into(), "in_progress".into());
        let with = |kind: &str, fields: Value| {
            let mut event = place.clone();
            event["type"] = kind.into();
            for (key, value) in fields.as_object().into_iter().flatten() {
                event[key.as_str()] = value.clone();
            }
            event
        };
        self.round_trip = None;
        self.called = Some(Instant::now());
        for event in [
            json!({"type": "response.created", "response": {"id": response, "status": "in_progress", "output": []}}),
            with("response.output_item.added", json!({"item": empty})),
            with(
                "response.function_call_arguments.done",
                json!({"name": name, "call_id": call, "arguments": arguments}),
            ),
            with("response.output_item.done", json!({"item": whole})),
            json!({"type": "response.done", "response": {"id": response, "status": "completed", "output": [whole]}}),
        ] {
            self.say(&event.to_string())?;
        }
        self.flush()
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.message(frame::TEXT, &[text.as_bytes()])
    }

    /// One message in one TLS record.
    fn message(&mut self, opcode: u8, parts: &[&[u8]]) -> io::Result<()> {
        let mut message = Vec::with_capacity(2_048);
        frame::head(&mut message, opcode, parts.iter().map(|part| part.len()).sum(), None);
        for part in parts {
            message.extend_from_slice(part);
        }
        self.tls.writer().write_all(&message)
    }

    /// The poll reported it writable, or there is something to send.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.outbox)?;
        }
        send(&mut self.socket, &mut self.outbox)
    }
}

/// Sends as much of `outbox` as the kernel takes.
pub(crate) fn send(socket: &mut TcpStream, outbox: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    while sent < outbox.len() {
        match socket.write(&outbox[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    outbox.drain(..sent);
    Ok(())
}

/// The base64 of an `input_audio_buffer.append`, wherever its keys stand.
fn appended(event: &[u8]) -> Option<&[u8]> {
    let key = memmem::find(event, b"\"audio\"")?;
    let rest = &event[key + 7..];
    let colon = rest.iter().position(|byte| *byte == b':')?;
    let quote = colon + 1 + rest[colon + 1..].iter().position(|byte| *byte != b' ')?;
    if rest[quote] != b'"' {
        return None; // `session.update` has "audio" among its modalities
    }
    let text = &rest[quote + 1..];
    let base64 = &text[..memchr::memchr(b'"', text)?];
    let rest = &text[base64.len()..];
    let named = memmem::find(&event[..key], b"input_audio_buffer.append").is_some()
        || memmem::find(rest, b"input_audio_buffer.append").is_some();
    named.then_some(base64)
}
