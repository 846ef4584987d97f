//! Tools that ask first: what is ready to run, and waits for the user's answer.
//!
//! The call decides (`call/questions`). Here is only what would be run: the tool and its checked arguments, as
//! they were shown to the user. A yes runs exactly that. It cannot become anything else meanwhile, also not when the
//! owner's files or a server's list of tools change.

use super::Session;
use super::context::{Carried, TurnContext, WantedTool};
use crate::call::{Asked, Input};
use crate::metrics::Family;
use crate::net::socket::Socket;

impl<S: Socket> Session<S> {
    /// Keeps what would be run, and lets the call ask for it.
    pub(super) fn ask_first(&mut self, wanted: WantedTool, cx: &mut TurnContext<'_>) {
        let WantedTool { call_id, tool, input } = &wanted;
        let (call_id, tool, input) = (call_id.clone(), tool.clone(), input.clone());
        self.asking.push(wanted);
        let asked =
            Input::AskFirst { call_id: &call_id, about: &tool.description, arguments: &input };
        self.input(asked, cx);
    }

    /// The user has agreed.
    pub(super) fn run_allowed(
        &mut self,
        call_id: &str,
        cx: &mut TurnContext<'_>,
    ) -> Result<Carried, String> {
        let allowed = self.take_asking(call_id).ok_or("It could not be run.")?;
        Ok(cx.run(allowed))
    }

    /// It is not to be run.
    pub(super) fn forget_tool(&mut self, call_id: &str) {
        self.take_asking(call_id);
    }

    fn take_asking(&mut self, call_id: &str) -> Option<WantedTool> {
        let at = self.asking.iter().position(|wanted| wanted.call_id == call_id)?;
        Some(self.asking.remove(at))
    }

    pub(super) fn count_asked(&self, asked: Asked, cx: &mut TurnContext<'_>) {
        cx.metrics.count(Family::Confirms, asked.word());
        match asked {
            Asked::Stray => {
                log::info!(
                    "[{}] the client answers a question that is not open: passed over",
                    self.id
                );
            }
            asked => log::info!("[{}] a tool that asks first: {}", self.id, asked.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::rc::Rc;
    use std::time::Instant;

    use mio::net::TcpStream;

    use super::*;
    use crate::net::transport::Transport;
    use crate::net::ws::{Role, WsPeer};
    use crate::session::candidates::tests::candidate;
    use crate::session::{CLIENT_SIZES, LoopResources, Queues};
    use crate::tools::Tools;

    /// A model may use a call's id again. A yes must not run what was refused under it.
    #[test]
    fn what_is_not_to_be_run_is_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let transport = Transport::plain(TcpStream::from_std(socket.expect("it listens")));
        let peer = WsPeer::new(transport, Role::Server, CLIENT_SIZES, &[]);
        let (mut resources, tools) = (LoopResources::new(1_000), Tools::builtin());
        let queues = Queues::open(&mut resources.pool).expect("the pool is new");
        let mut cx = resources.lend(&tools, Instant::now());
        let candidate = candidate(&["m"], None);
        let mut session =
            Session::<TcpStream>::new("call".to_owned(), "r", peer, queues, candidate, &mut cx);
        let tool = tools.find("get_weather").expect("built in");
        for (call_id, input) in [("a", "1"), ("b", "2"), ("a", "3")] {
            let (call_id, tool, input) = (call_id.to_owned(), Rc::clone(tool), input.to_owned());
            session.asking.push(WantedTool { call_id, tool, input });
        }
        session.forget_tool("a");
        assert!(session.run_allowed("a", &mut cx).is_ok());
        assert!(session.run_allowed("a", &mut cx).is_err(), "each is run once");
        assert_eq!(cx.wanted[0].input, "3");
    }
}
