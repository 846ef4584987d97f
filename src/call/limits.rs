//! The clock of a call: time to get ready, idle limit, longest duration, and their warnings.
//!
//! Each limit exists because an open session of the service costs money by the minute. Warnings come
//! first, so that a client can say something before the line goes dead.

use std::time::{Duration, Instant};

use super::ending::EndReason;
use super::playback::whole_ms;
use super::{Call, CallSettings, SERVICE_TIMEOUT, State, sooner};

/// How long before the idle limit the client is warned; half the limit if that is shorter.
const IDLE_WARNING: Duration = Duration::from_secs(15);
/// How long before the longest duration the client is warned, if the limit is over twice as long.
const TIME_WARNING: Duration = Duration::from_secs(60);

/// The fixed limits of a call, and since when it is idle.
#[derive(Debug)]
pub(super) struct Limits {
    created: Instant,
    /// When the call was active for the first time.
    active_since: Option<Instant>,
    idle: Duration,
    max: Duration,
    /// The last time somebody did something other than play reply audio.
    last_activity: Instant,
    /// The start of the idle time for which a warning was given.
    idle_warned: Option<Instant>,
    time_warned: bool,
}

/// What a moment brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// The idle limit is this many seconds away. Said once in each idle time.
    IdleSoon {
        seconds: u64,
    },
    Idle,
    /// The longest duration is a minute away. Said once in a call.
    TimeSoon,
    Time,
}

impl Limits {
    pub(super) fn new(settings: &CallSettings, now: Instant) -> Self {
        Self {
            created: now,
            active_since: None,
            idle: settings.idle,
            max: settings.max_duration,
            last_activity: now,
            idle_warned: None,
            time_warned: false,
        }
    }

    /// The call is active, for the first time or again.
    pub(super) fn activated(&mut self, now: Instant) {
        self.active_since.get_or_insert(now);
        self.touch(now);
    }

    /// When the call was active for the first time.
    pub(super) fn active_since(&self) -> Option<Instant> {
        self.active_since
    }

    /// When the service must have got ready for the first time.
    fn ready_by(&self) -> Option<Instant> {
        self.active_since.is_none().then(|| self.created + SERVICE_TIMEOUT)
    }

    /// Somebody spoke or did something.
    pub(super) fn touch(&mut self, now: Instant) {
        self.last_activity = self.last_activity.max(now);
    }

    /// The next moment at which [`Call::on_tick`] has something to do. `busy`: somebody speaks or
    /// works; `play_end`: when the client has played all.
    pub(super) fn deadline(
        &self,
        state: State,
        busy: bool,
        play_end: Option<Instant>,
    ) -> Option<Instant> {
        let ready = self.ready_by();
        let idle = if matches!(state, State::Active { .. }) && !busy {
            let start = self.idle_start(play_end);
            let warned = self.idle_warned == Some(start);
            start.checked_add(if warned { self.idle } else { self.idle - self.idle_warning() })
        } else {
            None
        };
        let warning_open = !self.time_warned && self.max > TIME_WARNING * 2;
        let time = if warning_open { self.max - TIME_WARNING } else { self.max };
        sooner(sooner(ready, idle), self.created.checked_add(time))
    }

    /// What is due now, the most urgent first. A warning is remembered as given, so the caller asks
    /// until there is nothing more.
    fn due(&mut self, busy: bool, play_end: Option<Instant>, now: Instant) -> Due {
        let age = now.saturating_duration_since(self.created);
        if age >= self.max {
            return Due::Time;
        }
        if !self.time_warned && self.max > TIME_WARNING * 2 && age >= self.max - TIME_WARNING {
            self.time_warned = true;
            return Due::TimeSoon;
        }
        if busy {
            return Due::Nothing;
        }
        let start = self.idle_start(play_end);
        let idle = now.saturating_duration_since(start);
        if idle >= self.idle {
            return Due::Idle;
        }
        if idle >= self.idle - self.idle_warning() && self.idle_warned != Some(start) {
            self.idle_warned = Some(start);
            let seconds = whole_ms(self.idle - idle).div_ceil(1_000);
            return Due::IdleSoon { seconds };
        }
        Due::Nothing
    }

    /// Since when neither side speaks; in the future while reply audio is being played. A reply
    /// arrives much faster than it is heard, so the idle time must not begin with its arrival.
    fn idle_start(&self, play_end: Option<Instant>) -> Instant {
        play_end.map_or(self.last_activity, |end| end.max(self.last_activity))
    }

    fn idle_warning(&self) -> Duration {
        IDLE_WARNING.min(self.idle / 2)
    }
}

impl Call {
    /// A deadline may have passed. Overdue tools are answered before the limits are looked at: their
    /// answer counts as work and is owed to the service in any case.
    pub(super) fn on_tick(&mut self, now: Instant) {
        if self.limits.ready_by().is_some_and(|end| end <= now) {
            self.end(EndReason::ServiceTimeout, now);
            return;
        }
        self.send_silence(now);
        self.on_hold_tick(now);
        self.lapse(now);
        self.on_outage_tick(now);
        self.on_rollover_tick(now);
        self.run_overdue_calls(now);
        self.expire_questions(now);
        while let Some(call) = self.tools.close_overdue(now) {
            let output = r#"{"error":"The tool took too long and was given up."}"#;
            self.answer_call(&call.call_id, output);
            self.tell_tool_end(&call, false, now);
        }
        // An idle call is ended only once it is active; its longest duration counts from the start.
        let busy = self.is_busy() || !self.is_active();
        loop {
            match self.limits.due(busy, self.playback.end(), now) {
                Due::Nothing => return,
                Due::Idle => return self.end(EndReason::Idle(self.limits.idle.as_secs()), now),
                Due::Time => return self.end(EndReason::TimeLimit(self.limits.max.as_secs()), now),
                Due::IdleSoon { seconds } => self.warn_idle(seconds),
                Due::TimeSoon => self.error("time_soon", "The call will end in one minute."),
            }
        }
    }

    fn warn_idle(&mut self, seconds: u64) {
        let text =
            format!("Nobody has spoken for a while. The call will end in {seconds} seconds.");
        self.error("idle_soon", &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(idle: Duration, max: Duration, now: Instant) -> Limits {
        let (last_activity, idle_warned, time_warned) = (now, None, false);
        let active_since = Some(now);
        Limits { created: now, active_since, idle, max, last_activity, idle_warned, time_warned }
    }

    /// A short call is not warned: half of it would be over.
    #[test]
    fn a_call_of_more_than_two_minutes_is_warned_a_minute_before_its_end() {
        let now = Instant::now();
        let active = State::Active { since: now };
        for (seconds, warned) in [(61, false), (120, false), (121, true), (3600, true)] {
            let max = Duration::from_secs(seconds);
            let mut limits = limits(Duration::from_secs(9_999), max, now);
            let first = if warned { now + max - TIME_WARNING } else { now + max };
            assert_eq!(limits.deadline(active, true, None), Some(first), "{seconds}");
            let early = first - Duration::from_millis(1);
            assert_eq!(limits.due(true, None, early), Due::Nothing, "{seconds}");
            if warned {
                assert_eq!(limits.due(true, None, first), Due::TimeSoon, "{seconds}");
                assert_eq!(limits.due(true, None, first), Due::Nothing, "it is told once");
                assert_eq!(limits.deadline(active, true, None), Some(now + max), "{seconds}");
            }
            assert_eq!(limits.due(true, None, now + max), Due::Time, "{seconds}");
        }
    }
}
