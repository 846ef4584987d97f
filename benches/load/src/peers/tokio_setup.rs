//! What both tokio relays do alike: accept callers, and dial the service.

use std::error::Error;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use crate::setup::Setup;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A task for each caller.
pub(crate) async fn serve<Call>(
    call: impl Fn(TcpStream, Arc<Setup>) -> Call,
) -> Result<(), Box<dyn Error>>
where
    Call: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let setup = Arc::new(Setup::from_env()?);
    let listener = TcpListener::bind(setup.listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        // A caller that leaves is no fault.
        tokio::spawn(call(socket, Arc::clone(&setup)));
    }
}

/// TLS to the service, and the request for the upgrade that is to be sent there.
pub(crate) async fn dial(setup: &Setup) -> Result<(TlsStream<TcpStream>, Request), Failure> {
    let socket = TcpStream::connect(&setup.service).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1")?;
    let stream = TlsConnector::from(Arc::clone(&setup.tls)).connect(name, socket).await?;
    let mut request = format!("wss://{}{}", setup.service, setup.target).into_client_request()?;
    request.headers_mut().insert("api-key", setup.key.parse()?);
    Ok((stream, request))
}
