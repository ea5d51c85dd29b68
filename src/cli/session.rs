//! One command's run: the environment, the cluster's options, the terminal, the interrupt.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::failure::Failure;
use super::options::{ClusterOptions, Format};
use super::terminal::{Input, Terminal};
use crate::client::admin::Each;
use crate::client::{Admin, ApiError, ClientConfig, ClientError, Cluster, Topics};
use crate::env::{BoxFuture, Env};
use crate::types::ErrorCode;

/// What a command needs of the process it runs in.
pub struct Surroundings {
    pub env: Env,
    /// The process's environment variables.
    pub environment: Vec<(String, String)>,
    /// Begins to read stdin.
    pub input: Box<dyn FnOnce() -> Input + Send>,
    /// Completes when the user wants the command to end.
    pub interrupted: BoxFuture<'static, ()>,
}

/// One command's run.
pub struct Session {
    pub env: Env,
    pub environment: Vec<(String, String)>,
    pub options: ClusterOptions,
    pub terminal: Terminal,
    pub interrupt: Interrupt,
    input: Option<Box<dyn FnOnce() -> Input + Send>>,
}

/// The user's wish to end.
pub struct Interrupt(Option<BoxFuture<'static, ()>>);

impl Interrupt {
    /// Completes when the user has asked to end; at once from then on.
    pub async fn heard(&mut self) {
        if let Some(wait) = &mut self.0 {
            wait.await;
            self.0 = None;
        }
    }

    /// `work`, unless the user asks to end first.
    pub async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        // The wish comes first: work that is always ready must not drown it.
        tokio::select! {
            biased;
            () = self.heard() => Err(Failure::Interrupted),
            done = work => Ok(done),
        }
    }
}

impl Session {
    pub fn new(surroundings: Surroundings, options: ClusterOptions) -> Result<Self, Failure> {
        Ok(Self {
            env: surroundings.env,
            environment: surroundings.environment,
            options,
            terminal: Terminal::new(),
            interrupt: Interrupt(Some(surroundings.interrupted)),
            input: Some(surroundings.input),
        })
    }

    /// Begins to read stdin.
    pub fn input(&mut self) -> Result<Input, Failure> {
        let open = self.input.take();
        let open = open.ok_or_else(|| Failure::Failed("stdin is read already".to_owned()))?;
        Ok(open())
    }

    #[must_use]
    pub fn is_json(&self) -> bool {
        self.options.format == Format::Json
    }

    /// Prints a command's answer in the form asked for.
    pub fn answer(&mut self, json: &Value, text: &str) -> Result<(), Failure> {
        match self.options.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(json)
                    .map_err(|error| Failure::Failed(format!("the answer is no JSON: {error}")))?;
                self.terminal.line(&json)
            }
            Format::Text if text.is_empty() => Ok(()),
            Format::Text => self.terminal.line(text),
        }
    }

    /// Complains about each thing that failed; `Err` when there was one. In JSON the answer
    /// itself has said it.
    pub fn check_each<K, T>(
        &mut self,
        results: &Each<K, T>,
        what: impl Fn(&K) -> String,
    ) -> Result<(), Failure> {
        let errors: Vec<(&K, &ApiError)> = results
            .iter()
            .filter_map(|(key, result)| Some((key, result.as_ref().err()?)))
            .collect();
        match errors.as_slice() {
            [] => Ok(()),
            [(key, error)] if results.len() == 1 => {
                Err(Failure::refused(what(key), (*error).clone()))
            }
            errors => {
                for (key, error) in errors {
                    self.terminal
                        .note(&format!("klamm: {}: {error}", what(key)));
                }
                Err(Failure::Partly {
                    failed: errors.len(),
                    all: results.len(),
                })
            }
        }
    }

    /// A cluster that has been reached.
    pub async fn connect(&mut self, config: ClientConfig) -> Result<Cluster, Failure> {
        let cluster = Cluster::new(&self.env, config)?;
        let within = self.options.timeout.0;
        let reached = self.env.timeout(within, cluster.any_connection());
        match self.interrupt.or(reached).await? {
            Ok(connected) => connected.map(|_| cluster).map_err(Failure::from),
            Err(_) => Err(out_of_time("reaching the cluster", within)),
        }
    }

    /// Admin calls on the cluster of the options.
    pub async fn admin(&mut self) -> Result<Admin, Failure> {
        let config = self
            .options
            .client_config(&[("allow.auto.create.topics", "false")], &[])?;
        Ok(Admin::on(self.connect(config).await?))
    }

    /// One call of the cluster, unless the user asks to end.
    pub async fn call<T>(
        &mut self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Failure> {
        self.interrupt.or(call).await?.map_err(Failure::from)
    }

    /// Waits until `topic` is known and answers how many partitions it has. A topic that does not
    /// exist is an error after `within`, in which a broker may create it.
    pub async fn partitions_of(
        &mut self,
        cluster: &Cluster,
        topic: &str,
        within: Duration,
    ) -> Result<i32, Failure> {
        let asked = Topics::Named(vec![Arc::from(topic)]);
        let deadline = self.env.now().plus(within);
        loop {
            let view = self.call(cluster.refresh(&asked)).await?;
            if let Some(found) = view.topics.get(topic) {
                return Ok(i32::try_from(found.partitions.len()).unwrap_or(i32::MAX));
            }
            let error = view.topic_errors.get(topic).cloned();
            let error = error.unwrap_or_else(|| ErrorCode::UnknownTopicOrPartition.into());
            if !error.code.is_retriable() || self.env.now() >= deadline {
                return Err(Failure::refused(format!("topic '{topic}'"), error));
            }
            let pause = self.env.sleep(Duration::from_millis(100));
            self.interrupt.or(pause).await?;
        }
    }
}

/// Time ran out.
#[must_use]
pub fn out_of_time(what: &str, within: Duration) -> Failure {
    Failure::OutOfTime(format!(
        "{what} took longer than {} s (--timeout gives it more)",
        within.as_secs_f64()
    ))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn an_interrupt_is_heard_while_work_is_always_ready() {
        let mut interrupt = Interrupt(Some(Box::pin(pending())));
        assert!(matches!(interrupt.or(ready(1)).now_or_never(), Some(Ok(1))));
        let mut interrupt = Interrupt(Some(Box::pin(ready(()))));
        for _ in 0..2 {
            let done = interrupt.or(ready(1)).now_or_never();
            assert!(matches!(done, Some(Err(Failure::Interrupted))));
        }
    }
}
