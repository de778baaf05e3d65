//! A supervised Redis on a runtime of its own, as the background thread has it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use weir::config::model;
use weir::redis::url::RedisUrl;
use weir::redis::{Link, Redis, RedisError, Skip};

/// What everything here may take.
pub(crate) const BUDGET: Duration = Duration::from_secs(2);

pub(crate) struct Connected {
    pub(crate) redis: Arc<Redis>,
    pub(crate) background: Runtime,
}

impl Connected {
    pub(crate) fn to(url: &str) -> Self {
        Self::with(url, |_| {})
    }

    pub(crate) fn with(url: &str, change: impl FnOnce(&mut model::Redis)) -> Self {
        let mut spec = model::Redis::new("main", RedisUrl::parse(url).unwrap());
        spec.health_interval = Duration::from_millis(100);
        change(&mut spec);
        let background =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let redis = Redis::start(Arc::new(spec), background.handle());
        Self { redis, background }
    }

    /// Waits for a link that is newer.
    pub(crate) fn link_after(&self, number: u64) -> Arc<Link> {
        self.run(async { tokio::time::timeout(harness::WAIT, self.redis.next_link(number)).await.unwrap() })
    }

    pub(crate) fn link(&self) -> Arc<Link> {
        self.link_after(0)
    }

    pub(crate) fn run<T>(&self, doing: impl Future<Output = T>) -> T {
        self.background.block_on(doing)
    }

    /// Puts and fetches. False while a link that has just been made lets only some keys through.
    pub(crate) fn works(&self) -> bool {
        let Ok(link) = self.redis.link() else { return false };
        self.run(async {
            let put = link.put(b"test:key", b"value", Duration::from_secs(60), BUDGET).await;
            if put.is_err() || link.fetch(b"test:key", BUDGET).await.is_ok_and(|value| value.is_none()) {
                return false;
            }
            for number in 0..200 {
                let skipped = link.fetch(format!("test:any:{number}").as_bytes(), BUDGET).await;
                if skipped == Err(RedisError::Skipped(Skip::Ramp)) {
                    return false;
                }
            }
            true
        })
    }
}
