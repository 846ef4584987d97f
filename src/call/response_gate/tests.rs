//! The gate by itself: what opens it, and when.

use super::*;

fn start() -> (ResponseGate, Instant) {
    (ResponseGate::default(), Instant::now())
}

#[test]
fn requests_merge_and_only_one_is_outstanding() {
    let (mut gate, now) = start();
    gate.want(ResponseRequest::Answer);
    gate.want(ResponseRequest::Answer);
    assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
    gate.want(ResponseRequest::Answer);
    assert_eq!(gate.next(now), None);
    gate.created("r1", now);
    assert_eq!(gate.next(now), None);
    gate.done("other");
    assert_eq!(gate.next(now), None);
    gate.done("r1");
    assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
}

#[test]
fn speech_announces_a_response_until_it_lapses() {
    let (mut gate, now) = start();
    gate.speech_started(now);
    gate.want(ResponseRequest::Answer);
    assert_eq!(gate.next(now), None);
    gate.speech_stopped(true, now);
    assert_eq!(gate.next(now), None);
    assert_eq!(gate.deadline(false, None), Some(now + ANNOUNCED));
    let later = now + ANNOUNCED;
    assert!(gate.tick(false, None, later).any);
    assert_eq!(gate.next(later), Some(ResponseRequest::Answer));
}

#[test]
fn the_services_own_response_meets_an_earlier_wish() {
    let (mut gate, now) = start();
    gate.speech_started(now);
    gate.want(ResponseRequest::Answer);
    gate.speech_stopped(true, now);
    gate.created("vad", now);
    gate.done("vad");
    assert_eq!(gate.next(now), None);
}

#[test]
fn a_wish_during_the_announcement_is_asked_for_afterwards() {
    let (mut gate, now) = start();
    gate.speech_started(now);
    gate.speech_stopped(true, now);
    gate.want(ResponseRequest::Answer);
    gate.created("vad", now);
    gate.done("vad");
    assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
}

#[test]
fn a_refusal_is_retried_once_after_the_other_response() {
    let (mut gate, now) = start();
    gate.want(ResponseRequest::Answer);
    assert!(gate.next(now).is_some());
    gate.refused(now);
    assert_eq!(gate.next(now), None);
    gate.created("theirs", now);
    gate.done("theirs");
    assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
    gate.refused(now);
    gate.created("again", now);
    gate.done("again");
    assert_eq!(gate.next(now), None);
    gate.want(ResponseRequest::Answer);
    assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
    gate.created("r", now);
    gate.refused(now);
    gate.done("r");
    assert_eq!(gate.next(now), Some(ResponseRequest::Answer), "a new request may be retried again");
}

#[test]
fn a_request_without_an_answer_lapses() {
    let (mut gate, now) = start();
    gate.want(ResponseRequest::Greeting);
    assert_eq!(gate.next(now), Some(ResponseRequest::Greeting));
    assert!(gate.is_busy());
    assert_eq!(gate.tick(false, None, now + REQUESTED).response, Some(Unfinished::NotCreated));
    assert!(!gate.is_busy());
    assert_eq!(gate.next(now), None);
}

#[test]
fn stop_takes_what_is_on_its_way_only() {
    let (mut gate, now) = start();
    gate.stop_next();
    gate.want(ResponseRequest::Answer);
    assert!(gate.next(now).is_some());
    assert_eq!(gate.created("r1", now), Some(false));
    gate.done("r1");
    gate.speech_started(now);
    gate.speech_stopped(true, now);
    gate.stop_next();
    assert_eq!(gate.created("r2", now), Some(true));
}
