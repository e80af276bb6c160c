//! Sidecars with replicas in files, which resume from their last position.

use vexact::htap::StorageMode;
use vexact::replica::SyncMode;
use vexact::sidecar::DeleteDetection;

use super::*;

impl World {
    fn stored(&self, storage_mode: StorageMode, sync_mode: SyncMode) -> HtapConfig {
        let storage_path = Some(self.path("replicas"));
        HtapConfig { storage_mode, sync_mode, storage_path, sidecar: Some(self.sidecar()), ..HtapConfig::default() }
    }
}

#[tokio::test]
async fn a_sidecar_goes_on_from_its_watermark() {
    for storage_mode in [StorageMode::ArrowIpc, StorageMode::Parquet] {
        for sync_mode in [SyncMode::Destructive, SyncMode::Temporal] {
            let world = World::new();
            (1..=30).for_each(|id| world.doc(id, "x", 100 + id, 100 + id));
            let mut config = world.stored(storage_mode, sync_mode);
            config.sidecar.as_mut().unwrap().poll_batch_size = 8;
            let engine = HtapEngine::open(config.clone()).await.unwrap();
            assert_eq!(sync(&engine).await, (8, 0, 0));
            engine.shutdown().await;
            let engine = HtapEngine::open(config.clone()).await.unwrap();
            assert_eq!(ask(&engine, "SELECT count(*) FROM docs").await, ["8"]);
            assert_eq!(sync_all(&engine).await, (22, 0, 0));
            engine.shutdown().await;
            // While the engine is closed: a change, and a row that comes late.
            world.doc(3, "y", 103, 200);
            world.doc(40, "late", 125, 125);
            let engine = HtapEngine::open(config.clone()).await.unwrap();
            assert_eq!(sync_all(&engine).await, (1, 1, 0));
            assert_eq!(sync_all(&engine).await, (0, 0, 0));
            let rows = if sync_mode == SyncMode::Temporal { "32" } else { "31" };
            assert_eq!(ask(&engine, "SELECT count(*) FROM docs").await, [rows]);
            assert_eq!(engine.sync_status().await.unwrap().last_synced_seq, Some(32));
        }
    }
}

#[tokio::test]
async fn stored_replicas_are_read_while_the_source_is_away() {
    let world = World::new();
    world.doc(1, "a", 100, 100);
    let config = world.stored(StorageMode::ArrowIpc, SyncMode::Destructive);
    let engine = HtapEngine::open(config.clone()).await.unwrap();
    sync_all(&engine).await;
    engine.shutdown().await;
    std::fs::rename(world.source(), world.path("away.db")).unwrap();
    let engine = HtapEngine::open(config).await.unwrap();
    assert_eq!(docs(&engine).await, ["1|a"]);
    assert!(engine.sync_status().await.unwrap().last_error.unwrap().contains("source.db"));
    std::fs::rename(world.path("away.db"), world.source()).unwrap();
    world.doc(2, "b", 101, 101);
    assert_eq!(sync_all(&engine).await, (1, 0, 0));
}

#[tokio::test]
async fn another_configuration_reads_anew_and_another_source_is_refused() {
    let world = World::new();
    world.run("ALTER TABLE docs ADD COLUMN gone INTEGER");
    world.run("INSERT INTO docs VALUES (1, 'a', 100, 100, NULL), (2, 'b', 100, 100, 1)");
    let config = world.stored(StorageMode::Parquet, SyncMode::Destructive);
    let engine = HtapEngine::open(config.clone()).await.unwrap();
    assert_eq!(sync_all(&engine).await, (2, 0, 0));
    engine.shutdown().await;
    let mut other = config.clone();
    other.sidecar.as_mut().unwrap().delete_detection = DeleteDetection::SoftDelete("gone".into());
    let engine = HtapEngine::open(other).await.unwrap();
    sync_all(&engine).await;
    assert_eq!(docs(&engine).await, ["1|a"]);
    engine.shutdown().await;
    let mut other = config.clone();
    other.sidecar.as_mut().unwrap().source = world.path("else.db").display().to_string();
    let error = HtapEngine::open(other).await.unwrap_err().to_string();
    assert!(error.starts_with("sidecar_source: the storage holds replicas of another source"), "{error}");
    let other = HtapConfig { sync_mode: SyncMode::Temporal, ..config.clone() };
    let error = HtapEngine::open(other).await.unwrap_err().to_string();
    assert!(error.starts_with("sync_mode: the storage holds destructive replicas"), "{error}");
    let other = HtapConfig { sidecar: None, oltp_path: world.path("own.db"), ..config };
    assert!(HtapEngine::open(other).await.is_err());
}
