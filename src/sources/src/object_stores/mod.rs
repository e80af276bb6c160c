//! Object stores: `s3://`, `gs://`, `az://`, `http://` and `https://` URLs beside local files.
//!
//! [`ObjectStores`] is DataFusion's registry of stores of one session. It creates a store at its
//! first use: with the options that were given for its URL ([`StoreOptions`]), else from the
//! environment variables of its kind (`AWS_*`, `GOOGLE_*`, `AZURE_*`). Options never leave the
//! registry: a store's `Debug` and its errors have its URL alone.
//!
//! Requests are bounded in time. A request, its body included, takes 30 s at most, a connection
//! 5 s; a request that failed for a reason of the network or of the server is retried 4 times
//! within 30 s.

mod client;
mod failure;
pub(crate) mod files;
pub(crate) mod footers;
mod local_footers;
mod location;
mod named;
mod options;
pub(crate) mod ranges;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::parquet::file::metadata::ParquetMetaData;
use object_store::local::LocalFileSystem;
use object_store::{ObjectMeta, ObjectStore};
use parking_lot::RwLock;
use url::Url;
use vexact_core::error::Result;

pub use failure::own;
pub use local_footers::LocalFooters;
pub use location::{Location, is_remote, shown};
pub use options::StoreOptions;

use super::scan::external;
use footers::Footers;
use named::NamedStore;
use ranges::ObjectVersion;

/// The object stores of a session, by scheme and authority of their URLs. Local files are the store
/// `file://`.
pub struct ObjectStores {
    options: StoreOptions,
    stores: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
    footers: Footers,
}

impl fmt::Debug for ObjectStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut urls: Vec<String> = self.stores.read().keys().cloned().collect();
        urls.sort_unstable();
        f.debug_tuple("ObjectStores").field(&urls).finish()
    }
}

impl ObjectStores {
    /// Creates a registry. A store without options takes its own from the environment.
    pub fn new(options: StoreOptions) -> Self {
        let local: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
        Self {
            options,
            stores: RwLock::new(HashMap::from([("file://".to_owned(), local)])),
            footers: Footers::default(),
        }
    }

    /// Returns the store of a URL, which is created at its first use. No request is sent.
    ///
    /// # Errors
    /// A scheme that is not supported; options that contradict each other.
    pub fn store(&self, url: &ObjectStoreUrl) -> Result<Arc<dyn ObjectStore>> {
        let url: &Url = url.as_ref();
        let key = key(url);
        if let Some(store) = self.stores.read().get(&key) {
            return Ok(Arc::clone(store));
        }
        let secrets = self.options.secrets(&key);
        let built = client::build(url, self.options.of_store(&key));
        let built = built.map_err(|error| failure::refused(&key, &error, &secrets))?;
        let store: Arc<dyn ObjectStore> = Arc::new(NamedStore::new(&key, built, secrets));
        // Of two that were created at the same time, one is used.
        Ok(Arc::clone(self.stores.write().entry(key).or_insert(store)))
    }

    /// Returns a version of an object, to read it.
    pub(crate) fn object(&self, url: &ObjectStoreUrl, meta: &ObjectMeta) -> Result<ObjectVersion> {
        let name = format!("{}{}", url.as_str(), meta.location);
        Ok(ObjectVersion { store: self.store(url)?, url: name, meta: meta.clone() })
    }

    /// Returns the footer of a Parquet file, which is cached, with its page index if it has one.
    ///
    /// # Errors
    /// A failed request; a file that is not Parquet, or is damaged.
    pub async fn footer(&self, url: &ObjectStoreUrl, meta: &ObjectMeta) -> Result<Arc<ParquetMetaData>> {
        self.footers.get(&self.object(url, meta)?).await
    }
}

impl Default for ObjectStores {
    /// Creates a registry whose stores take their options from the environment.
    fn default() -> Self {
        Self::new(StoreOptions::default())
    }
}

/// Returns the scheme and authority of a URL, without a slash at the end.
fn key(url: &Url) -> String {
    url[..url::Position::BeforePath].to_owned()
}

impl ObjectStoreRegistry for ObjectStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.stores.write().insert(key(url), store)
    }

    fn get_store(&self, url: &Url) -> datafusion::common::Result<Arc<dyn ObjectStore>> {
        let store = ObjectStoreUrl::parse(key(url))?;
        self.store(&store).map_err(external)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "marker-of-a-secret";

    fn with_secret() -> ObjectStores {
        let mut options = StoreOptions::default();
        let values = [("access_key_id", "id"), ("secret_access_key", MARK), ("endpoint", "http://127.0.0.1:1")];
        options.set("s3://bucket", values.map(|(key, value)| (key.into(), value.into()))).unwrap();
        ObjectStores::new(options)
    }

    #[test]
    fn a_store_is_created_once_and_says_nothing_of_its_options() {
        let stores = with_secret();
        let url = ObjectStoreUrl::parse("s3://bucket").unwrap();
        let store = stores.store(&url).unwrap();
        assert!(Arc::ptr_eq(&store, &stores.get_store(url.as_ref()).unwrap()));
        let shown = format!("{stores:?} {store:?} {store} {:?}", stores.options);
        assert!(shown.contains("s3://bucket") && !shown.contains(MARK), "{shown}");
    }

    #[test]
    fn local_files_are_a_store_and_unknown_schemes_are_named() {
        let stores = ObjectStores::new(StoreOptions::default());
        assert!(stores.get_store(&Url::parse("file:///a/b").unwrap()).is_ok());
        let error = stores.get_store(&Url::parse("ftp://host/a").unwrap()).unwrap_err().to_string();
        assert!(error.contains("ftp://host: expected one of s3"), "{error}");
    }
}
