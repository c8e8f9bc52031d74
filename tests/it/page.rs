//! The page at `/`: served from the binary with a policy that lets nothing else run, and with a token only in
//! development.

use reqwest::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, ORIGIN,
};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::harness::{Client, Redis, Rest, Server, redis_and_server};

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
async fn the_page_can_be_installed() {
    let (_redis, server) = redis_and_server().await;
    let rest = Rest::anonymous(&server);
    for (path, kind) in [
        ("/worker.js", "text/javascript; charset=utf-8"),
        ("/manifest.webmanifest", "application/manifest+json"),
        ("/icon-192.png", "image/png"),
    ] {
        let file = get(&rest, path, &[]).await;
        assert_eq!((file.status().as_u16(), header(&file, CONTENT_TYPE)), (200, kind), "{path}");
        assert_eq!(header(&file, CACHE_CONTROL), "no-cache", "{path}: its name is the same in each version");
    }
    let manifest = get(&rest, "/manifest.webmanifest", &[]).await.json::<Value>().await.unwrap();
    for icon in manifest["icons"].as_array().unwrap() {
        assert_eq!(get(&rest, icon["src"].as_str().unwrap(), &[]).await.status(), 200, "{icon}");
    }
}

#[tokio::test]
async fn only_a_development_server_issues_tokens() {
    let (redis, server) = redis_and_server().await;
    Rest::anonymous(&server).get("/dev/token?user=ann").await.problem(404, "not_found");

    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let env = [("ROOMLOG_REDIS__URL", &*redis.url()), ("ROOMLOG_EMBEDDED__DATA_DIR", data_dir)];
    let server = Server::serve(&["--dev"], &env).await;
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

#[tokio::test]
async fn a_development_server_accepts_pages_of_its_machine_and_tells_others_why_not() {
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let env = [("ROOMLOG_REDIS__URL", &*redis.url()), ("ROOMLOG_EMBEDDED__DATA_DIR", data_dir)];
    let server = Server::serve(&["--dev"], &env).await;
    let rest = Rest::anonymous(&server);
    let page = get(&rest, "/healthz", &[(ORIGIN, "http://localhost:5173")]).await;
    assert_eq!(
        (page.status().as_u16(), header(&page, ACCESS_CONTROL_ALLOW_ORIGIN)),
        (200, "http://localhost:5173")
    );
    let foreign = get(&rest, "/healthz", &[(ORIGIN, "https://app.example.com")]).await;
    // The browser lets the page read the reason.
    assert_eq!(header(&foreign, ACCESS_CONTROL_ALLOW_ORIGIN), "https://app.example.com");
    assert_eq!(foreign.status().as_u16(), 403);
    assert!(foreign.text().await.unwrap().contains("--allow-origin https://app.example.com"));
}
