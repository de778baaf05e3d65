use serde_json::{Value, json};
use weir_plugin::testing::{self, TestRequest, TestResponse, Tested};

use super::*;

/// "Cache Key Mapping" of a Django application, with the paths of its admin pages.
fn table() -> Value {
    json!({ "model": {
        "PersonalInfo": { "written_by": ["POST /admin/main/personalinfo/**"], "purge": ["home_page_data_*", "personal_page_data", "portfolio_statistics"] },
        "SocialLink": { "written_by": ["POST /admin/main/sociallink/**"], "purge": ["home_page_data_*", "personal_page_data"] },
        "Post": { "written_by": ["POST /admin/main/post/**"], "purge": ["home_page_data_*", "blog_posts_*"] },
        "Tool": { "written_by": ["POST /admin/main/tool/**"], "purge": ["home_page_data_*", "tools_*"] },
        "AITool": { "written_by": ["POST /admin/main/aitool/**"], "purge": ["home_page_data_*", "ai_tools_*"] },
        "ContactMessage": { "written_by": ["POST /admin/main/contactmessage/**", "POST /contact/"], "purge": ["portfolio_statistics"] },
    } })
}

fn purged(config: &Value, request: &TestRequest, response: &TestResponse) -> Vec<Purge> {
    Tested::<ModelInvalidation>::new(config.clone()).unwrap().on_write(request, None, response).unwrap()
}

#[test]
fn each_model_purges_its_row_and_no_other() {
    let (home, personal) = (Purge::tags("home_page_data_*"), Purge::tag("personal_page_data"));
    let statistics = Purge::tag("portfolio_statistics");
    #[rustfmt::skip]
    let rows = [
        ("/admin/main/personalinfo/1/change/", vec![home.clone(), personal.clone(), statistics.clone()]),
        ("/admin/main/sociallink/add/",        vec![home.clone(), personal]),
        ("/admin/main/post/7/delete/",         vec![home.clone(), Purge::tags("blog_posts_*")]),
        ("/admin/main/tool/3/change/",         vec![home.clone(), Purge::tags("tools_*")]),
        ("/admin/main/aitool/3/change/",       vec![home, Purge::tags("ai_tools_*")]),
        ("/contact/",                          vec![statistics]),
        ("/admin/auth/user/1/change/",         vec![]),
        ("/admin/main/posts/",                 vec![]),
    ];
    for (path, expected) in rows {
        assert_eq!(purged(&table(), &testing::post(path), &testing::response(302)), expected, "{path}");
    }
}

fn posts(extra: &Value) -> Value {
    let mut post = json!({ "written_by": ["POST /api/posts", "PUT|DELETE /api/posts/{id}"], "purge": ["posts", "post:{id}"] });
    for (key, value) in extra.as_object().unwrap() {
        post[key] = value.clone();
    }
    json!({ "model": { "Post": post } })
}

#[test]
fn names_come_from_the_path() {
    let put = testing::request("PUT", "/api/posts/7");
    assert_eq!(
        purged(&posts(&json!({})), &put, &testing::response(200)),
        [Purge::tag("posts"), Purge::tag("post:7")]
    );
    let spaced = testing::request("DELETE", "/api/posts/a%20b");
    assert_eq!(purged(&posts(&json!({})), &spaced, &testing::response(204))[1], Purge::tag("post:a b"));
}

#[test]
fn what_nothing_says_stands_for_all() {
    let created = purged(&posts(&json!({})), &testing::post("/api/posts"), &testing::response(201));
    assert_eq!(created, [Purge::tag("posts"), Purge::tags("post:*")]);
}

#[test]
fn names_come_from_the_json_that_was_sent() {
    let config = posts(&json!({ "json": { "id": "/post/id" } }));
    let with = |id: Value| {
        let request = testing::post("/api/posts").json(json!({ "post": { "id": id } }));
        purged(&config, &request, &testing::response(200))[1].clone()
    };
    assert_eq!(with(json!(7)), Purge::tag("post:7"));
    assert_eq!(with(json!("a\"b")), Purge::tag("post:a\"b"));
    assert_eq!(with(json!([7])), Purge::tags("post:*"), "of a list no name can be made");
    assert_eq!(with(json!("*")), Purge::tags("post:*"));
    let put = testing::request("PUT", "/api/posts/8").json(json!({ "post": { "id": 7 } }));
    assert_eq!(
        purged(&config, &put, &testing::response(200))[1],
        Purge::tag("post:8"),
        "the path was written to"
    );
}

#[test]
fn names_come_from_the_location_of_what_was_created() {
    let config = posts(&json!({ "location": "/api/posts/{id}" }));
    let at = |location: &str| {
        let response = testing::response(201).header("Location", location);
        purged(&config, &testing::post("/api/posts"), &response)[1].clone()
    };
    assert_eq!(at("/api/posts/9"), Purge::tag("post:9"));
    assert_eq!(at("https://shop.example/api/posts/9?x=1"), Purge::tag("post:9"));
    assert_eq!(at("/elsewhere"), Purge::tags("post:*"));
}

#[test]
fn soft_is_soft() {
    let config = posts(&json!({ "soft": true }));
    let put = testing::request("PUT", "/api/posts/7");
    assert!(purged(&config, &put, &testing::response(200)).iter().all(|purge| purge.soft));
}

#[test]
fn mistakes_are_refused() {
    let error = |config| Tested::<ModelInvalidation>::new(config).unwrap_err().to_string();
    assert_eq!(error(json!({})), "config: missing field `model`");
    assert_eq!(
        error(json!({ "model": { "Post": { "written_by": ["POST /a"], "purge": ["post:{id}"] } } })),
        "config: `model.Post.purge`: nothing says what `{id}` of `post:{id}` is: no path in `written_by`, `json` or `location`"
    );
    assert_eq!(
        error(json!({ "model": { "Post": { "written_by": ["POST /a"], "purge": ["post:{id"] } } })),
        "config: `model.Post.purge`: `post:{id` has a `{` without a `}`"
    );
    assert_eq!(
        error(json!({ "model": { "Post": { "written_by": ["post /a"], "purge": ["x"] } } })),
        "config: `model.Post.written_by[0]`: `post` in `post /a` is no method: write them in capitals, separated by `|`"
    );
}
