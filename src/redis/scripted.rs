//! A scripted Redis for unit tests. A function answers each command at once, and the calls are kept.

use std::fmt;
use std::sync::Arc;

use fred::error::Error;
use fred::types::Value;
use parking_lot::Mutex;

/// A command, or the call of a function, in the store's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The name of the command, or of the function without its library.
    pub name: String,
    /// The arguments, without the name and the key of a function.
    pub args: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Text(String),
    List(Vec<Reply>),
    Lost,
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<const N: usize> From<[&str; N]> for Reply {
    fn from(texts: [&str; N]) -> Self {
        Self::List(texts.map(Self::from).into())
    }
}

/// A script, shared by the connections of a node.
#[derive(Clone)]
pub(crate) struct Script {
    answer: Arc<dyn Fn(&Call) -> Reply + Send + Sync>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Script {
    pub(crate) fn new(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), calls: Arc::default() }
    }

    pub(crate) fn calls(&self, name: &str) -> Vec<Call> {
        self.calls.lock().iter().filter(|call| call.name == name).cloned().collect()
    }

    /// Answers a command, or returns `None` if it is lost.
    pub(super) fn take(&self, words: &[Vec<u8>]) -> Option<Result<Value, Error>> {
        let mut words = words.iter().map(|word| String::from_utf8_lossy(word).into_owned());
        let mut name = words.next().unwrap_or_default();
        if name == "FCALL" {
            let function = words.next().unwrap_or_default();
            name = function.splitn(3, '_').nth(2).unwrap_or_default().to_owned();
            words.nth(1);
        }
        let call = Call { name, args: words.collect() };
        let reply = value((self.answer)(&call));
        self.calls.lock().push(call);
        reply.map(Ok)
    }
}

fn value(reply: Reply) -> Option<Value> {
    Some(match reply {
        Reply::Nil => Value::Null,
        Reply::Int(number) => Value::Integer(number),
        Reply::Text(text) => Value::from(text),
        Reply::List(replies) => Value::Array(replies.into_iter().map(value).collect::<Option<_>>()?),
        Reply::Lost => return None,
    })
}
