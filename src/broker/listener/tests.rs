//! Claims about a listener whose broker is stopping.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::broker::Broker;
use crate::config::BrokerConfig;

#[test]
fn nobody_listens_once_the_broker_is_stopping() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let settings = [
        ("log.dirs", dir.path().display().to_string()),
        ("listeners", "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("klamm.admin.listener", String::new()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    let config = BrokerConfig::load(None, Vec::new(), settings).expect("valid settings");
    runtime.block_on(async {
        let env = crate::env::tokio::env(Default::default()).expect("an env");
        let broker = Broker::start(env.clone(), config.config, None).await;
        let broker = broker.expect("it starts");
        let address = broker.addresses().remove(0);
        let mut before = env.net.connect(&address).await.expect("it listens");
        // Answered, or it might not have been accepted yet.
        env.sleep(Duration::from_millis(50)).await;
        let stopping = {
            let broker = broker.clone();
            env.spawn("stopping", async move { broker.stop().await })
        };
        let mut rest = Vec::new();
        let ended = before.read_to_end(&mut rest);
        let ended = env.timeout(Duration::from_secs(10), ended).await;
        ended.expect("in time").expect("an end in order");
        let refused = env.net.connect(&address).await.map(drop);
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionRefused));
        stopping.join().await;
    });
}
