use serde_json::json;
use weir_plugin::testing::{self, TestRequest, TestResponse, Tested};
use weir_plugin::{CacheMode, StoreDecision};

use super::*;

fn plugin(extra: &Value) -> Tested<ChatCache> {
    let mut config = json!({ "tenant": { "credential": "authorization" } });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    Tested::new(config).unwrap()
}

fn chat(body: Value) -> TestRequest {
    testing::post("/v1/chat/completions").header("authorization", "Bearer key 1").json(body)
}

fn asking(question: &str) -> Value {
    json!({ "model": "m", "temperature": 0, "messages": [{ "role": "user", "content": question }] })
}

fn key(request: &TestRequest) -> Option<String> {
    plugin(&json!({})).on_request(request).unwrap().key
}

#[test]
fn equal_conversations_share_however_they_are_written() {
    let spaced = testing::post("/v1/chat/completions")
        .header("authorization", "Bearer key 1")
        .body(br#"{ "messages": [ {"content":"hello", "role":"user"} ], "temperature": 0, "model": "m" }"#);
    assert_eq!(key(&chat(asking("hello"))), key(&spaced));
    assert!(key(&spaced).is_some());
}

#[test]
fn whatever_the_answer_depends_on_makes_another_key() {
    let first = key(&chat(asking("hello")));
    let mut others = vec![asking("hallo")];
    for (member, value) in
        [("model", json!("n")), ("stream", json!(true)), ("max_tokens", json!(5)), ("seed", json!(1))]
    {
        let mut body = asking("hello");
        body[member] = value;
        others.push(body);
    }
    let mut history = asking("hello");
    history["messages"] = json!([{ "role": "user", "content": "hi" }, { "role": "assistant", "content": "?" }, { "role": "user", "content": "hello" }]);
    others.push(history);
    for body in others {
        let other = key(&chat(body.clone()));
        assert!(other.is_some() && other != first, "{body}");
    }
    let other_tenant =
        testing::post("/v1/chat/completions").header("authorization", "Bearer key 2").json(asking("hello"));
    assert_ne!(key(&other_tenant), first);
}

#[test]
fn what_does_not_repeat_or_is_nobodys_passes() {
    let without_tenant = testing::post("/v1/chat/completions").json(asking("hello"));
    let mut warm = asking("hello");
    warm["temperature"] = json!(0.7);
    let mut unsaid = asking("hello");
    unsaid.as_object_mut().unwrap().remove("temperature");
    let mut tools = asking("hello");
    tools["tools"] = json!([{ "type": "function" }]);
    let no_model = json!({ "temperature": 0, "messages": [] });
    let no_messages = json!({ "temperature": 0, "model": "m" });
    let mut text = asking("hello");
    text["temperature"] = json!("0");
    let mut requests: Vec<_> =
        [warm, unsaid, tools, no_model, no_messages, text, json!([]), json!("x")].map(chat).into();
    requests.push(without_tenant);
    requests.push(testing::post("/").header("authorization", "a").body(b"{"));
    requests.push(testing::get("/").header("authorization", "a"));
    for request in requests {
        assert_eq!(plugin(&json!({})).on_request(&request).unwrap().mode, CacheMode::Bypass, "{request:?}");
    }
}

#[test]
fn chance_and_tools_are_the_operators_to_allow() {
    let mut body = asking("hello");
    body["temperature"] = json!(0.7);
    body["tools"] = json!([{ "type": "function" }]);
    let allowing = plugin(&json!({ "temperature_max": 1.0, "tools": true }));
    assert_eq!(allowing.on_request(&chat(body)).unwrap().mode, CacheMode::Lookup);
}

#[test]
fn what_the_answer_does_not_depend_on_can_be_ignored() {
    let ignoring = plugin(&json!({ "ignore": ["user"] }));
    let mut named = asking("hello");
    named["user"] = json!("anna");
    let key = |body| ignoring.on_request(&chat(body)).unwrap().key;
    assert_eq!(key(named), key(asking("hello")));
}

fn stored(plugin: &Tested<ChatCache>, response: &TestResponse) -> StoreDecision {
    let request = chat(asking("hello"));
    let decision = plugin.on_request(&request).unwrap();
    plugin.on_response(&request, decision.carry.as_deref(), response).unwrap().store
}

#[test]
fn answers_are_stored_errors_are_not() {
    let answer = testing::response(200).header("content-type", "application/json; charset=utf-8");
    let expected = StorePolicy::new().ttl(Duration::from_secs(3_600)).tag("chat").tag("model:m");
    assert_eq!(stored(&plugin(&json!({})), &answer), StoreDecision::Store(expected.clone()));
    let stream = testing::response(200).header("content-type", "text/event-stream");
    assert_eq!(stored(&plugin(&json!({})), &stream), StoreDecision::Store(expected));
    for other in [
        testing::response(429).header("content-type", "application/json"),
        testing::response(500),
        testing::response(206).header("content-type", "application/json"),
        testing::response(200).header("content-type", "text/html"),
        testing::response(200),
        testing::response(200).header("content-type", "application/json").header("set-cookie", "a=1"),
    ] {
        assert_eq!(stored(&plugin(&json!({})), &other), StoreDecision::NoStore, "{other:?}");
    }
    let passed = plugin(&json!({})).on_response(&chat(asking("x")), None, &answer).unwrap();
    assert_eq!(passed.store, StoreDecision::NoStore, "what passed the cache is not put into it");
}

#[test]
fn it_can_wait_for_the_second_time() {
    let plugin = plugin(&json!({ "admit": 2 }));
    let answer = testing::response(200).header("content-type", "application/json");
    assert_eq!(stored(&plugin, &answer), StoreDecision::NoStore);
    assert!(matches!(stored(&plugin, &answer), StoreDecision::Store(_)));
    testing::advance(Duration::from_secs(3_600));
    assert_eq!(stored(&plugin, &answer), StoreDecision::NoStore, "it was long ago");
}

#[test]
fn mistakes_are_refused() {
    let error = |config| Tested::<ChatCache>::new(config).unwrap_err().to_string();
    assert_eq!(error(json!({})), "config: missing field `tenant`");
    assert_eq!(
        error(json!({ "tenant": "everybody", "ignore": ["model"] })),
        "config: `ignore`: answers depend on `model`"
    );
    assert_eq!(error(json!({ "tenant": "everybody", "admit": 0 })), "config: `admit` is 0: 1 stores at once");
    assert!(error(json!({ "tenant": { "header": "x" } })).starts_with("config: `tenant"));
}
