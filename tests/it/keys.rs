//! The keys for verifying tokens: PEM files, JWK sets in files and at URLs, issuers and audiences.

use std::path::PathBuf;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Client, Redis, Rest, Server, Upgrade, eventually, now, sign};

/// Returns the path of a file of keys.
pub(crate) fn fixture(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/keys", name].iter().collect();
    path.to_str().unwrap().to_owned()
}

/// Signs a token with a private key, with this key id.
pub(crate) fn signed(algorithm: Algorithm, key: &str, id: Option<&str>, extra: &Value) -> String {
    let pem = std::fs::read(fixture(key)).unwrap();
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(&pem),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&pem),
        _ => EncodingKey::from_ed_pem(&pem),
    };
    let mut claims = json!({ "sub": "ann", "exp": now() + 60, "rooms": { "*": ["read", "write"] } });
    claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let mut header = Header::new(algorithm);
    header.kid = id.map(Into::into);
    encode(&header, &claims, &key.unwrap()).unwrap()
}

/// Returns whether a server accepts this token.
pub(crate) async fn accepts(server: &Server, token: &str) -> bool {
    Rest::new(server, token).get("/v1/rooms/room/messages").await.status == 200
}

/// Rules: token-4.
#[tokio::test]
async fn each_kind_of_key_verifies_its_own_algorithm_only() {
    let redis = Redis::start().await;
    let none = json!({});
    let tokens = [
        signed(Algorithm::RS256, "rsa_a.private.pem", None, &none),
        signed(Algorithm::ES256, "ec_a.private.pem", None, &none),
        signed(Algorithm::EdDSA, "ed_a.private.pem", None, &none),
    ];
    let other = signed(Algorithm::RS256, "rsa_b.private.pem", None, &none);
    let by_secret = sign(&json!({ "sub": "ann", "exp": now() + 60, "rooms": { "*": ["read"] } }));
    for (index, key) in ["rsa_a.public.pem", "ec_a.public.pem", "ed_a.public.pem"].into_iter().enumerate() {
        let env = [("ROOMLOG_AUTH__PUBLIC_KEY_FILE", &*fixture(key)), ("ROOMLOG_AUTH__HS256_SECRET", "")];
        let server = Server::with(&redis.url(), &env).await;
        for (signer, token) in tokens.iter().enumerate() {
            assert_eq!(accepts(&server, token).await, signer == index, "{key}");
        }
        assert!(!accepts(&server, &other).await);
        assert!(!accepts(&server, &by_secret).await);
        // A known attack: the public key's own text as an HMAC secret.
        let pem = std::fs::read(fixture(key)).unwrap();
        let claims = json!({ "sub": "ann", "exp": now() + 60, "rooms": { "*": ["read"] } });
        let forged =
            encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(&pem)).unwrap();
        assert!(!accepts(&server, &forged).await);
        let mut client = Client::connect(&server, &tokens[index]).await;
        client.publish("room", json!(1)).await;
    }
}

/// Rules: conn-8.
#[tokio::test]
async fn issuer_and_audience_are_checked_if_configured() {
    let redis = Redis::start().await;
    let env = [("ROOMLOG_AUTH__ISSUER", "https://id.example.com"), ("ROOMLOG_AUTH__AUDIENCE", "chat")];
    let server = Server::with(&redis.url(), &env).await;
    let claims = |extra: Value| {
        let mut claims = json!({ "sub": "ann", "exp": now() + 60, "rooms": { "*": ["read"] } });
        claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        sign(&claims)
    };
    let good = json!({ "iss": "https://id.example.com", "aud": "chat" });
    assert!(accepts(&server, &claims(good)).await);
    assert!(
        accepts(&server, &claims(json!({ "iss": "https://id.example.com", "aud": ["x", "chat"] }))).await
    );
    for bad in [
        json!({}),
        json!({ "iss": "https://id.example.com" }),
        json!({ "aud": "chat" }),
        json!({ "iss": "https://evil.example.com", "aud": "chat" }),
        json!({ "iss": "https://id.example.com", "aud": "mail" }),
    ] {
        assert!(!accepts(&server, &claims(bad.clone())).await, "{bad}");
    }
}

/// Serves the current value of a text over HTTP.
pub(crate) async fn serve(text: Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = text.lock().clone();
            let mut request = vec![0; 4096];
            let _ = stream.read(&mut request).await; // Any request will do.
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await; // The client may be gone.
        }
    });
    url
}

#[tokio::test]
async fn keys_at_a_url_are_rotated_without_a_restart() {
    let all: Value = serde_json::from_str(&std::fs::read_to_string(fixture("jwks.json")).unwrap()).unwrap();
    let rsa: Vec<Value> =
        all["keys"].as_array().unwrap().iter().filter(|key| key["kty"] == "RSA").cloned().collect();
    let [a, b] = &rsa[..] else { panic!("two RSA keys are expected in the set") };
    let set = |keys: &[&Value]| json!({ "keys": keys }).to_string();
    let token = |key: &Value, file| signed(Algorithm::RS256, file, key["kid"].as_str(), &json!({}));
    let (by_a, by_b) = (token(a, "rsa_a.private.pem"), token(b, "rsa_b.private.pem"));

    let text = Arc::new(Mutex::new(set(&[a])));
    let url = serve(text.clone()).await;
    let redis = Redis::start().await;
    let env = [
        ("ROOMLOG_AUTH__JWKS_URL", &*url),
        ("ROOMLOG_AUTH__JWKS_REFRESH", "1s"),
        ("ROOMLOG_AUTH__HS256_SECRET", ""),
    ];
    let server = Server::with(&redis.url(), &env).await;
    assert!(accepts(&server, &by_a).await);
    assert!(!accepts(&server, &by_b).await);
    *text.lock() = set(&[a, b]);
    eventually("the new key is known", async || accepts(&server, &by_b).await).await;
    assert!(accepts(&server, &by_a).await, "both hold while they overlap");
    *text.lock() = set(&[b]);
    eventually("the old key is gone", async || !accepts(&server, &by_a).await).await;
    *text.lock() = "nonsense".into();
    assert!(accepts(&server, &by_b).await, "a set that cannot be read changes nothing");
}

/// Starts a server that loads its keys from a URL. Returns the text served there, which has the first key,
/// and tokens of two keys.
async fn with_keys_at_an_address(redis: &Redis) -> (Server, Arc<Mutex<String>>, [String; 2], String) {
    let all: Value = serde_json::from_str(&std::fs::read_to_string(fixture("jwks.json")).unwrap()).unwrap();
    let rsa: Vec<&Value> = all["keys"].as_array().unwrap().iter().filter(|key| key["kty"] == "RSA").collect();
    let token = |key: &Value, file| signed(Algorithm::RS256, file, key["kid"].as_str(), &json!({}));
    let tokens = [token(rsa[0], "rsa_a.private.pem"), token(rsa[1], "rsa_b.private.pem")];
    let text = Arc::new(Mutex::new(json!({ "keys": [rsa[0]] }).to_string()));
    let url = serve(text.clone()).await;
    let env = [("ROOMLOG_AUTH__JWKS_URL", &*url), ("ROOMLOG_AUTH__HS256_SECRET", "")];
    (Server::with(&redis.url(), &env).await, text, tokens, json!({ "keys": rsa }).to_string())
}

/// Connects with this token, which must be refused. Returns the error's code, the close code, and the
/// goodbye.
async fn refused(server: &Server, token: &str) -> (Value, u16, Value) {
    let mut client = Client::open(server, Upgrade::default()).await.unwrap();
    let answer = client.request(json!({ "op": "connect", "token": token })).await;
    let goodbye = client.expect("goodbye").await;
    (answer["code"].clone(), client.closed().await, goodbye)
}

/// Rules: conn-6, close-4005, code-14.
#[tokio::test]
async fn a_failed_key_lookup_is_temporary_for_clients() {
    let redis = Redis::start().await;
    let (server, text, [by_a, by_b], both) = with_keys_at_an_address(&redis).await;
    // The issuer rotates its keys, and is unreadable for a moment.
    *text.lock() = "nonsense".into();
    let (code, closed, goodbye) = refused(&server, &by_b).await;
    assert_eq!((code, closed, &goodbye["code"]), (json!("unavailable"), 4005, &json!("unavailable")));
    assert!(goodbye["retry_after_ms"].as_u64().is_some_and(|after| after >= 1000), "{goodbye}");
    let rest = Rest::new(&server, &by_b);
    let answer = rest.get("/v1/rooms/room/messages").await;
    assert!(answer.body["retry_after_ms"].is_u64(), "{answer:?}");
    answer.problem(503, "unavailable");
    // A connection that renews with it keeps its old token.
    let mut client = Client::connect(&server, &by_a).await;
    assert_eq!(client.error(json!({ "op": "auth", "token": by_b })).await, "unavailable");
    client.publish("room", json!(1)).await;
    *text.lock() = both;
    eventually("the key is looked up", async || accepts(&server, &by_b).await).await;
}

#[tokio::test]
async fn unknown_key_ids_do_not_delay_the_lookup_of_a_new_key() {
    let redis = Redis::start().await;
    let (server, text, [_, by_b], both) = with_keys_at_an_address(&redis).await;
    let strange = |kid: &str| signed(Algorithm::RS256, "rsa_b.private.pem", Some(kid), &json!({}));
    let (code, closed, _) = refused(&server, &strange("x")).await;
    assert_eq!((code, closed), (json!("unauthenticated"), 4501), "the issuer has no such key");
    *text.lock() = both;
    Client::connect(&server, &by_b).await.settled().await;
}
