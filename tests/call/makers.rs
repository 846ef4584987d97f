//! Responses that we have asked for are told from those that the service makes by itself, by the metadata of
//! our requests.

use serde_json::{Value, json};

use super::scene::{Scene, settings};
use voicelived::call::CallSettings;

/// Types a turn; the request that follows.
fn type_a_turn(scene: &mut Scene) -> Value {
    scene.outputs.clear();
    scene.says(json!({"type": "text", "text": "Hello"}));
    scene.commands().pop().expect("a request")
}

/// `response.created` of what was asked for by this request.
fn ours(scene: &mut Scene, id: &str, request: &Value) {
    let response = json!({"id": id, "metadata": request["response"]["metadata"]});
    scene.service(json!({"type": "response.created", "response": response}));
}

/// `response.created` of one that the service makes by itself.
fn of_the_service(scene: &mut Scene, id: &str) {
    let response = json!({"id": id, "metadata": null});
    scene.service(json!({"type": "response.created", "response": response}));
}

/// A call whose service has given metadata back.
fn echoing() -> Scene {
    let mut scene = Scene::active();
    let request = type_a_turn(&mut scene);
    assert!(request["response"]["metadata"].is_object(), "{request}");
    ours(&mut scene, "r1", &request);
    scene.done("r1", "completed");
    scene
}

fn requests(scene: &mut Scene) -> usize {
    scene.commands().iter().filter(|command| command["type"] == "response.create").count()
}

#[test]
fn a_response_of_the_services_own_does_not_meet_our_request() {
    let mut scene = echoing();
    type_a_turn(&mut scene);
    of_the_service(&mut scene, "r2");
    scene.outputs.clear();
    scene.done("r2", "completed");
    assert_eq!(requests(&mut scene), 1);
}

/// It was only later than the other one.
#[test]
fn our_response_is_not_asked_for_twice_when_it_comes_after_all() {
    let mut scene = echoing();
    let request = type_a_turn(&mut scene);
    of_the_service(&mut scene, "r2");
    ours(&mut scene, "r3", &request);
    scene.outputs.clear();
    scene.done("r2", "completed");
    scene.done("r3", "completed");
    assert_eq!(requests(&mut scene), 0);
}

/// A service that gives no metadata back may mean ours by it.
#[test]
fn without_metadata_given_back_every_response_is_taken_for_ours() {
    let mut scene = Scene::active();
    type_a_turn(&mut scene);
    of_the_service(&mut scene, "r1");
    scene.outputs.clear();
    scene.done("r1", "completed");
    assert_eq!(requests(&mut scene), 0);
}

/// The user has spoken while our request was under way: the service is going to answer that by itself.
#[test]
fn our_response_is_not_the_one_that_the_service_makes_for_a_turn() {
    let mut scene = echoing();
    let request = type_a_turn(&mut scene);
    scene.speech();
    scene.speech_ends();
    ours(&mut scene, "r2", &request);
    scene.outputs.clear();
    scene.function_call("r2", "c", "completed");
    scene.tool_finished("c");
    scene.done("r2", "completed");
    assert_eq!(requests(&mut scene), 0, "two answers to one turn");
    of_the_service(&mut scene, "r3");
    scene.done("r3", "completed");
    assert_eq!(requests(&mut scene), 1, "the tool's");
}

/// Api-versions before 2026 have no metadata. The greeting has other parameters besides.
#[test]
fn a_service_that_refuses_metadata_is_asked_without() {
    let greeting = Some("Hi".to_owned());
    let mut scene = Scene::active_with(CallSettings { greeting, ..settings() }, json!(null));
    let refused = json!({"type": "error", "error": {"type": "invalid_request_error", "event_id": "create",
        "code": "unknown_parameter", "param": "response.metadata", "message": "Unknown parameter."}});
    scene.outputs.clear();
    scene.service(refused.clone());
    let asked = scene.commands().pop().expect("it is asked again");
    assert!(asked["response"]["metadata"].is_null(), "{asked}");
    assert!(asked["response"]["pre_generated_assistant_message"].is_object(), "{asked}");
    scene.outputs.clear();
    scene.service(refused);
    assert_eq!(scene.story(), ["error"], "it is asked again once, and told then");
}
