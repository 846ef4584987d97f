//! A daemon in a thread of this process, for what no setting can bring about. It ends with the
//! process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use voicelived::access::{Access, Gate};
use voicelived::call::CallSettings;
use voicelived::call::service::session::{Dialect, SessionSettings, session_object};
use voicelived::net::dial::Target;
use voicelived::server::reload::CallConfiguration;
use voicelived::server::{Calls, Listen, Mcp, Server, bind};
use voicelived::session::candidates::{Candidate, Chosen};
use voicelived::tools::{Backing, Limits, Tool, Tools};
use voicelived::web::{CallSite, Site};

/// Its `get_weather` is `script`, which gets that name as `$2`. A script that comes to its end answers as the
/// built-in tool does.
pub(crate) fn daemon_with_tools(service: SocketAddr, script: &str) -> SocketAddr {
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let program = env!("CARGO_BIN_EXE_voicelived");
    let script = format!(
        "{script}\nread -r given\n\
         printf '{{\"id\":1,\"name\":\"get_weather\",\"arguments\":%s}}\\n' \"$given\" |\n\
         '{program}' __tools | sed 's/^{{\"id\":1,\"output\"://; s/}}$//'\nexit"
    );
    let stand_in = slow_program(socket.local_addr().expect("it is bound").port(), &script);
    let tools = Tools::builtin();
    let mut weather = (**tools.find("get_weather").expect("built in")).clone();
    let argv = vec![stand_in.into(), "__tool".into(), "get_weather".into()];
    weather.backing = Backing::Command { argv, folder: "/".into() };
    weather.limits = Limits::DEFAULT;
    let service = (&*service.ip().to_string(), service.port());
    daemon(socket, service, PathBuf::from(program), Some(weather), 2000)
}

/// Its service is at this port of a host of this name, and at the addresses that `addresses` holds
/// at the time, one a line.
pub(crate) fn daemon_with_names(host: &str, port: u16, addresses: &Path) -> SocketAddr {
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let script = format!("exec cat '{}'", addresses.display());
    let program = slow_program(socket.local_addr().expect("it is bound").port(), &script);
    daemon(socket, (host, port), program, None, 2000)
}

/// Its tools are this program, whether there is one or not, and it has so many blocks for audio.
pub(crate) fn daemon_with(service: SocketAddr, program: &str, blocks: usize) -> SocketAddr {
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let service = (&*service.ip().to_string(), service.port());
    daemon(socket, service, PathBuf::from(program), None, blocks)
}

fn daemon(
    socket: std::net::TcpListener,
    (host, port): (&str, u16),
    program: PathBuf,
    own_tool: Option<Tool>,
    pool_blocks: usize,
) -> SocketAddr {
    let address = socket.local_addr().expect("it is bound");
    let host = host.to_owned();
    std::thread::spawn(move || {
        let mut tools = Tools::default();
        if let Some(tool) = own_tool {
            tools.add(tool).expect("it is the first");
        }
        Tools::builtin().iter().for_each(|tool| tools.add_again(tool));
        let session = SessionSettings {
            model: "m".to_owned(),
            expected: Dialect::Beta,
            voice: "en-US-AvaNeural".to_owned(),
            instructions: None,
            language: None,
            tools: tools.schemas(),
            overrides: serde_json::Map::new(),
        };
        let settings = CallSettings {
            assistant: String::new(),
            chosen: None,
            session: session_object(&session),
            greeting: None,
            idle: Duration::from_secs(60),
            max_duration: Duration::from_secs(600),
            reconnect: Duration::ZERO,
            continue_reply: false,
            reversible_barge_in: false,
            session_time: Duration::ZERO,
            resume: Duration::ZERO,
        };
        let target = Target {
            host_field: format!("{host}:{port}"),
            host,
            port,
            request_target: "/voice-live/realtime?api-version=1&model=m".to_owned(),
            credential: "api-key: k".to_owned(),
            tls: None,
            proxy: None,
        };
        let gate = Gate::new(false, address, Vec::new());
        let site = Site::Calls(CallSite { gate, simulated: true, https: None, ca_pem: None });
        let calls = Calls {
            configuration: CallConfiguration {
                access: Access::Open,
                candidate: Chosen::new(Candidate::only(settings, target)),
                assistants: Default::default(),
                sign_in: None,
                tools,
                mcp: Mcp::default(),
                unready: None,
            },
            reread: Box::new(|| Err("nothing is read again".to_owned())),
            certificates: None,
            spending: None,
            program,
            max_sessions: 4,
            max_sessions_per_address: 4,
            connects_per_minute: 30,
            pool_blocks,
            drain: Duration::ZERO,
        };
        let server =
            Server::new(vec![Listen { socket, site, tls: None, passed: false }], Some(calls));
        server.and_then(Server::run).expect("it serves");
    });
    address
}

/// The daemon's program with `script` in front of it.
fn slow_program(name: u16, script: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("slow-tool-{name}"));
    let program = env!("CARGO_BIN_EXE_voicelived");
    super::program::write(&path, &format!("#!/bin/sh\n{script}\nexec '{program}' \"$@\"\n"));
    path
}
