//! Reading the `/metrics` of the watched servers.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::figures::{Figures, Overview};
use super::samples::Samples;
use crate::cli::remote::cause;
use crate::util::tls::install_provider;

const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Watched {
    url: String,
    last: Option<(Instant, Samples)>,
}

#[derive(Debug)]
pub(super) struct Watch {
    client: reqwest::Client,
    servers: Vec<Watched>,
}

impl Watch {
    pub(super) fn new(urls: &[String]) -> reqwest::Result<Self> {
        install_provider();
        let servers = urls.iter().map(|url| Watched { url: url.trim_end_matches('/').into(), last: None });
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { client, servers: servers.collect() })
    }

    pub(super) async fn read(&mut self) -> Overview {
        let client = &self.client;
        let nodes = join_all(self.servers.iter_mut().map(|server| server.read(client))).await;
        Overview::of(nodes)
    }
}

impl Watched {
    async fn read(&mut self, client: &reqwest::Client) -> Figures {
        let name = self.url.split_once("://").map_or(&*self.url, |(_, host)| host).to_owned();
        let read = async {
            let answer = client.get(format!("{}/metrics", self.url)).send().await?;
            answer.error_for_status()?.text().await
        };
        let now = Instant::now();
        let samples = match read.await {
            Ok(text) => Samples::read(&text),
            Err(error) => {
                self.last = None;
                return Figures::unreachable(name, &reason(&error));
            }
        };
        if !samples.has("roomlog_build_info") {
            self.last = None;
            return Figures::unreachable(name, "answers, and is no Roomlog");
        }
        let before = self.last.replace((now, samples.clone()));
        let since = before.as_ref().map(|(at, samples)| (samples, now.duration_since(*at).as_secs_f64()));
        Figures::of(name, &samples, since)
    }
}

fn reason(error: &reqwest::Error) -> String {
    error.status().map_or_else(|| cause(error), |status| format!("answers {}", status.as_u16()))
}
