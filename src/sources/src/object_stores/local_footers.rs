//! Cache of the footers of files on this machine, for the tables that DataFusion makes itself.
//!
//! The key of DataFusion's cache is a path without the URL of its store. So only footers of local
//! files are kept: two objects of one path in two stores would be mixed up if they have one size
//! and one time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::common::{HashMap, Result, TableReference};
use datafusion::execution::cache::cache_manager::{CacheManagerConfig, CachedFileMetadataEntry};
use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheEntryInfo};
use object_store::ObjectMeta;
use object_store::path::Path;

/// DataFusion's cache of footers, without those of objects in stores.
pub struct LocalFooters(DefaultCache<Path, CachedFileMetadataEntry>);

impl LocalFooters {
    /// Returns the caches of a session.
    pub fn caches() -> CacheManagerConfig {
        let caches = CacheManagerConfig::default();
        let footers = Self(DefaultCache::new(caches.metadata_cache_limit).with_name("LocalFooters"));
        caches.with_file_metadata_cache(Some(std::sync::Arc::new(footers)))
    }
}

/// Returns true if these are the metadata of a file on this machine.
fn is_local(meta: &ObjectMeta) -> bool {
    let Ok(now) = std::fs::metadata(format!("/{}", meta.location)) else { return false };
    let is_of_time = |modified| DateTime::<Utc>::from(modified) == meta.last_modified;
    now.len() == meta.size && now.modified().is_ok_and(is_of_time)
}

impl Cache<Path, CachedFileMetadataEntry> for LocalFooters {
    fn get(&self, key: &Path) -> Option<CachedFileMetadataEntry> {
        self.0.get(key)
    }

    fn put(&self, key: &Path, value: CachedFileMetadataEntry) -> Option<CachedFileMetadataEntry> {
        if is_local(&value.meta) { self.0.put(key, value) } else { None }
    }

    fn remove(&self, key: &Path) -> Option<CachedFileMetadataEntry> {
        self.0.remove(key)
    }

    fn contains_key(&self, key: &Path) -> bool {
        self.0.contains_key(key)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn clear(&self) {
        self.0.clear();
    }

    fn name(&self) -> String {
        self.0.name()
    }

    fn cache_limit(&self) -> usize {
        self.0.cache_limit()
    }

    fn update_cache_limit(&self, limit: usize) {
        self.0.update_cache_limit(limit);
    }

    fn cache_ttl(&self) -> Option<Duration> {
        self.0.cache_ttl()
    }

    fn update_cache_ttl(&self, ttl: Option<Duration>) {
        self.0.update_cache_ttl(ttl);
    }

    fn drop_table_entries(&self, table: &TableReference) -> Result<()> {
        self.0.drop_table_entries(table)
    }

    fn list_entries(&self) -> HashMap<Path, CacheEntryInfo<CachedFileMetadataEntry>> {
        self.0.list_entries()
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::sync::Arc;

    use datafusion::execution::cache::cache_manager::FileMetadata;
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;

    use super::*;

    struct Footer;

    impl FileMetadata for Footer {
        fn as_any(&self) -> &dyn Any {
            self
        }

        fn memory_size(&self) -> usize {
            1
        }

        fn extra_info(&self) -> HashMap<String, String> {
            HashMap::new()
        }
    }

    #[tokio::test]
    async fn footers_of_stores_are_not_kept_by_their_path() {
        let footers = LocalFooters::caches().file_metadata_cache.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Path::from_absolute_path(folder.path().join("a.parquet")).unwrap();
        let (local, remote) = (LocalFileSystem::new(), InMemory::new());
        remote.put(&path, "of a store".into()).await.unwrap();
        let meta = remote.head(&path).await.unwrap();
        assert!(footers.put(&path, CachedFileMetadataEntry::new(meta, Arc::new(Footer))).is_none());
        assert!(footers.get(&path).is_none() && footers.is_empty());
        local.put(&path, "of a file".into()).await.unwrap();
        let meta = local.head(&path).await.unwrap();
        footers.put(&path, CachedFileMetadataEntry::new(meta.clone(), Arc::new(Footer)));
        assert!(footers.get(&path).is_some_and(|kept| kept.is_valid_for(&meta)));
        // A footer of another object of the path does not take its place.
        let other = remote.head(&path).await.unwrap();
        footers.put(&path, CachedFileMetadataEntry::new(other, Arc::new(Footer)));
        assert!(footers.get(&path).is_some_and(|kept| kept.is_valid_for(&meta)));
    }
}
