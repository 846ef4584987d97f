//! Visitors in the loop: an HTTP connection gets its turn, and may become a call.

use std::time::Instant;

use super::Server;
use super::manage::Lifecycle;
use super::slot::Conn;
use crate::net::ws::{Role, WsPeer};
use crate::session::{CLIENT_SIZES, Progress};
use crate::simulated::SimulatedService;
use crate::web::{Join, JoinRequest, Site, Visit, VisitContext};

impl Server {
    /// One turn of a visitor: it is read and answered, or upgraded.
    pub(super) fn pump_visitor(&mut self, at: usize, now: Instant) -> Progress {
        self.read_gauges();
        let Conn::Visitor { visitor, listener } = &mut self.slots[at].conn else {
            return Progress::Idle;
        };
        let Some(listener) = self.listeners.get(*listener) else {
            return Progress::Closed;
        };
        let mut cx = VisitContext {
            guard: &mut self.guard,
            metrics: &mut self.resources.metrics,
            address: self.slots[at].address,
            draining: self.lifecycle != Lifecycle::Serving,
            takes_calls: self.lifecycle.admits_calls(listener.passed),
            unready: self.calls.as_ref().is_some_and(|calls| calls.configuration.unready.is_some()),
            assistants: self
                .calls
                .as_ref()
                .map_or("", |calls| calls.configuration.assistants.told()),
            join: Join::default(),
            now,
        };
        match visitor.pump(&listener.site, &mut cx) {
            Visit::Stays if visitor.has_more() => Progress::More,
            Visit::Stays => Progress::Idle,
            Visit::Gone => Progress::Closed,
            // The new owner of the transport must be pumped without an event: the client's first
            // frames may already be in a buffer, and its own first message waits to leave.
            Visit::Upgrade => {
                self.upgrade(at, now);
                // Nothing is left here if its call is in another slot.
                let moved = matches!(self.slots[at].conn, Conn::Free);
                if moved { Progress::Closed } else { Progress::More }
            }
        }
    }

    /// Turns a visitor that was answered 101 into a call, a refused call, or the simulated service.
    /// It stays in its slot, so its socket keeps its token and its registration. Bytes that came
    /// behind the request (`early`) go along, or the client's first frame would be lost.
    fn upgrade(&mut self, at: usize, now: Instant) {
        let Conn::Visitor { mut visitor, listener } =
            std::mem::replace(&mut self.slots[at].conn, Conn::Free)
        else {
            return;
        };
        let site = self.listeners.get(listener).map(|listener| listener.site.clone());
        self.slots[at].conn = match site {
            Some(Site::Simulator(options)) => {
                let admission = visitor.take_admission().unwrap_or_default();
                let (transport, early) = visitor.into_transport();
                Conn::Simulated(Box::new(SimulatedService::new(
                    transport, &early, options, admission, now,
                )))
            }
            Some(Site::Calls(_)) => {
                // Behind a proxy the caller is not the peer. The limit of calls is one for each caller.
                if let Some(client) = visitor.client() {
                    self.slots[at].address = client;
                }
                // The rules may have changed since the 101 was granted. `begin_call` compares this.
                self.slots[at].generation = visitor.generation();
                let Join { credential, request } = visitor.take_join();
                let (transport, early) = visitor.into_transport();
                let peer = WsPeer::new(transport, Role::Server, CLIENT_SIZES, &early);
                match request {
                    JoinRequest::Call(able, assistant) => {
                        self.begin_call(at, peer, credential, (able, &assistant), now)
                    }
                    JoinRequest::TakeUp(take_up) => {
                        self.take_up(at, peer, credential, &take_up, now)
                    }
                }
            }
            None => Conn::Free,
        };
        self.running += usize::from(matches!(self.slots[at].conn, Conn::Call(_)));
        self.dial(at, now);
    }
}
