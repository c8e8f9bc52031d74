//! The page at `/`: served from the binary with a policy that lets nothing else run, and with a token only in
//! development.

use reqwest::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
};
use reqwest::{Method, Response};

use crate::harness::{Client, Rest, Server, redis_and_server};

async fn get(rest: &Rest, path: &str, headers: &[(reqwest::header::HeaderName, &str)]) -> Response {
    let request = headers
        .iter()
        .fold(rest.request(Method::GET, path), |request, (name, value)| request.header(name, *value));
    request.send().await.unwrap()
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> &str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Returns the addresses in a page that begin with `/assets/`.
fn assets(html: &str) -> Vec<&str> {
    html.split('"').filter(|part| part.starts_with("/assets/")).collect()
}

#[tokio::test]
async fn the_page_and_its_assets_are_served_from_the_binary() {
    let (_redis, server) = redis_and_server().await;
    let rest = Rest::anonymous(&server);
    let page = get(&rest, "/", &[]).await;
    assert_eq!((page.status().as_u16(), header(&page, CONTENT_TYPE)), (200, "text/html; charset=utf-8"));
    assert_eq!(header(&page, CACHE_CONTROL), "no-cache", "a new version must show at once");
    let policy = header(&page, CONTENT_SECURITY_POLICY).to_owned();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let html = page.text().await.unwrap();
    assert!(!html.contains("<style") && !html.contains("style=") && !html.contains("<script>"), "{html}");

    let assets = assets(&html);
    let loads = |ending: &str| assets.iter().any(|path| path.ends_with(ending));
    assert!(loads(".js") && loads(".css") && loads(".svg"), "{html}");
    for path in assets {
        let plain = get(&rest, path, &[(ACCEPT_ENCODING, "identity")]).await;
        assert_eq!(plain.status(), 200, "{path}");
        assert!(header(&plain, CACHE_CONTROL).contains("immutable"), "{path}: its name has a hash");
        assert_eq!(
            (header(&plain, CONTENT_ENCODING), header(&plain, CONTENT_SECURITY_POLICY)),
            ("", &*policy)
        );
        let plain = plain.bytes().await.unwrap();
        let zipped = get(&rest, path, &[(ACCEPT_ENCODING, "gzip, deflate")]).await;
        assert_eq!(header(&zipped, CONTENT_ENCODING), "gzip", "{path}");
        let zipped = zipped.bytes().await.unwrap();
        assert!(zipped.starts_with(&[0x1f, 0x8b]) && zipped != plain, "{path}");
    }
    for nothing in ["/assets/index.js", "/assets/..%2findex.html", "/sources.sha256", "/page.js"] {
        rest.get(nothing).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn only_a_development_server_issues_tokens() {
    let (redis, server) = redis_and_server().await;
    Rest::anonymous(&server).get("/dev/token?user=ann").await.problem(404, "not_found");

    let server = Server::serve(&["--dev"], &[("ROOMLOG_REDIS__URL", &redis.url())]).await;
    let rest = Rest::anonymous(&server);
    let token = rest.get("/dev/token?user=ann").await.with(200)["token"].as_str().unwrap().to_owned();
    let mut ann = Client::connect(&server, &token).await;
    ann.join("room").await;
    rest.get("/dev/token?user=").await.problem(400, "bad_request");
    rest.get("/dev/token").await.problem(400, "bad_request");
    // The page of another server, whose name was made to resolve to this one.
    let foreign = get(&rest, "/dev/token?user=ann", &[(HOST, "evil.example:8080")]).await;
    assert_eq!(foreign.status(), 403);
}
