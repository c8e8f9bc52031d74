//! The source of tokens: a text, or a function that is called again before the last token ends, once for all
//! who wait.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Error;

/// Time limit for the function. A request that hangs must not hold everything up for good.
const FETCH_WITHIN: Duration = Duration::from_secs(30);

/// Longest time before its end at which a token is renewed.
const LEAD: Duration = Duration::from_secs(60);

/// Shortest time for which a new token is used.
const LEAST: Duration = Duration::from_secs(1);

type Fetching = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

#[derive(Clone)]
enum Source {
    Fixed(Option<String>),
    Function(Arc<dyn Fn() -> Fetching + Send + Sync>),
}

/// The tokens of a client. Cheap to clone. Clones share the current token.
#[derive(Clone)]
pub(super) struct Tokens {
    source: Source,
    current: Arc<Mutex<Option<Token>>>,
}

/// A token, and the time from which on a new one is used.
#[derive(Clone)]
struct Token {
    text: String,
    renew_at: Option<SystemTime>,
}

impl fmt::Debug for Tokens {
    /// Never shows a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("is_renewable", &self.is_renewable()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// A token that is never renewed.
    pub fn fixed(token: Option<&str>) -> Result<Self, Error> {
        let token = token.map(str::trim).filter(|token| !token.is_empty());
        if let Some(token) = token {
            check(token).map_err(Error::Unusable)?;
        }
        Ok(Self::new(Source::Fixed(token.map(str::to_owned))))
    }

    pub fn function<F, R, E>(function: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display,
    {
        Self::new(Source::Function(Arc::new(move || {
            let fetching = function();
            Box::pin(async move { fetching.await.map_err(|error| error.to_string()) })
        })))
    }

    fn new(source: Source) -> Self {
        Self { source, current: Arc::default() }
    }

    /// Returns whether there is a function to ask for another token.
    pub fn is_renewable(&self) -> bool {
        matches!(self.source, Source::Function(_))
    }

    /// Returns a token that should be valid for a while.
    pub async fn get(&self) -> Result<Option<String>, Error> {
        let function = match &self.source {
            Source::Fixed(token) => return Ok(token.clone()),
            Source::Function(function) => function,
        };
        let mut current = self.current.lock().await;
        if let Some(token) = &*current
            && token.renew_at.is_none_or(|renew_at| SystemTime::now() < renew_at)
        {
            return Ok(Some(token.text.clone()));
        }
        let token = fetch(&**function).await?;
        let text = token.text.clone();
        *current = Some(token);
        Ok(Some(text))
    }

    /// Fetches a new token. `None` if there is no function.
    pub async fn renew(&self) -> Result<Option<String>, Error> {
        let former = self.current.lock().await.take();
        let token = self.get().await?;
        match former {
            Some(former) if Some(&former.text) == token.as_ref() => {
                Err(Error::Token("it returned the former token".into()))
            }
            _ => Ok(token),
        }
    }

    /// Forgets the current token, which the server refused.
    pub async fn spent(&self) {
        *self.current.lock().await = None;
    }

    /// Returns the time until the current token is to be renewed. `None` if it never is.
    pub async fn renew_in(&self) -> Option<Duration> {
        let renew_at = self.current.lock().await.as_ref()?.renew_at?;
        Some(renew_at.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

async fn fetch(function: &(dyn Fn() -> Fetching + Send + Sync)) -> Result<Token, Error> {
    let fetched = timeout(FETCH_WITHIN, function()).await;
    let text = fetched.unwrap_or_else(|_| Err("no answer in time".into())).map_err(Error::Token)?;
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(Error::Token("it returned no token".into()));
    }
    check(&text).map_err(Error::Token)?;
    let now = SystemTime::now();
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let renew_at = used_for(&Claims::of(&text), since_epoch.as_secs_f64()).map(|time| now + time);
    Ok(Token { text, renew_at })
}

fn check(token: &str) -> Result<(), String> {
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("the token holds characters that no token has; was it copied as a whole?".into()),
    }
}

/// The times in a token, in Unix seconds. Nothing is verified: that is the server's part.
#[derive(Debug, Default, Deserialize)]
struct Claims {
    iat: Option<f64>,
    exp: Option<f64>,
}

impl Claims {
    fn of(token: &str) -> Self {
        let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        payload.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }
}

/// Returns the time for which a new token is used: two thirds of the rest of its life, or up to a minute
/// before its end. If the clock of this machine cannot be right, the token counts as new. `None` if it does
/// not expire.
fn used_for(claims: &Claims, now: f64) -> Option<Duration> {
    let (issued, expires) = (claims.iat.unwrap_or_default(), claims.exp?);
    let begin = if issued - 60.0 < now && now < expires { now } else { issued };
    let life = Duration::try_from_secs_f64(expires - begin).unwrap_or_default();
    Some((life - LEAD.min(life / 3)).max(LEAST))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn tokens_are_renewed_in_good_time_before_their_end() {
        let used = |iat, exp, now| used_for(&Claims { iat, exp }, now).map(|time| time.as_secs());
        assert_eq!(used(Some(1000.0), Some(1090.0), 1000.0), Some(60));
        assert_eq!(used(Some(1000.0), Some(4600.0), 1000.0), Some(3540));
        assert_eq!(used(Some(1000.0), Some(4600.0), 4000.0), Some(540));
        // Clocks that are wrong by a day, in both directions.
        assert_eq!(used(Some(1000.0), Some(4600.0), 87_400.0), Some(3540));
        assert_eq!(used(Some(87_400.0), Some(91_000.0), 1000.0), Some(3540));
        assert_eq!(used(Some(1000.0), Some(900.0), 1000.0), Some(1));
        assert_eq!(used(Some(1000.0), None, 1000.0), None);
    }

    #[test]
    fn a_token_that_was_cut_or_glued_is_refused() {
        assert!(Tokens::fixed(Some(" eyJ.a.b\n")).is_ok());
        assert!(Tokens::fixed(Some("eyJ a b")).is_err());
    }

    #[test]
    fn claims_are_read_and_other_texts_have_none() {
        let claims = Claims::of(&format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"exp":7,"sub":"ann"}"#)));
        assert_eq!((claims.iat, claims.exp), (None, Some(7.0)));
        assert_eq!(Claims::of("nonsense").exp, None);
    }

    #[tokio::test]
    async fn the_function_is_called_once_for_all_until_the_token_is_spent() {
        let calls = Arc::new(AtomicU32::new(0));
        let counter = calls.clone();
        let tokens = Tokens::function(move || {
            let call = counter.fetch_add(1, Ordering::Relaxed);
            async move { if call == 2 { Err("away") } else { Ok(format!("token{call}")) } }
        });
        let (first, second) = tokio::join!(tokens.get(), tokens.get());
        assert_eq!((first.unwrap(), second.unwrap()), (Some("token0".into()), Some("token0".into())));
        tokens.spent().await;
        assert_eq!(tokens.get().await.unwrap().as_deref(), Some("token1"));
        assert_eq!(tokens.renew().await, Err(Error::Token("away".into())));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_function_that_hangs_is_given_up() {
        let tokens = Tokens::function(std::future::pending::<Result<String, String>>);
        let before = tokio::time::Instant::now();
        assert!(matches!(tokens.get().await, Err(Error::Token(_))));
        assert_eq!(before.elapsed().as_secs(), FETCH_WITHIN.as_secs());
    }
}
