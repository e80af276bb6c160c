//! The settings `vexact.*`, for a session or by `SET`.

use std::any::Any;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{DataFusionError, Result, config_err};
use vexact_kernel::Tier;

/// `vexact.tier`, `vexact.threads` and `vexact.rewrite`.
#[derive(Debug, Clone)]
pub struct VexactOptions {
    /// The source of bounds: `auto` or `f32`.
    pub tier: Tier,
    /// Threads of one search; 0 for all.
    pub threads: usize,
    /// Whether `ORDER BY distance LIMIT k` is rewritten into a vector search.
    pub rewrite: bool,
}

impl Default for VexactOptions {
    fn default() -> Self {
        Self { tier: Tier::Auto, threads: 0, rewrite: true }
    }
}

impl VexactOptions {
    /// The options of a session, or the defaults where none are registered.
    pub fn of(config: &ConfigOptions) -> Self {
        config.extensions.get::<Self>().cloned().unwrap_or_default()
    }
}

impl ConfigExtension for VexactOptions {
    const PREFIX: &'static str = "vexact";
}

impl ExtensionOptions for VexactOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "tier" => {
                let invalid = |error| DataFusionError::Configuration(format!("vexact.tier: {error}"));
                self.tier = value.parse().map_err(invalid)?;
            }
            "threads" => match value.parse() {
                Ok(threads) => self.threads = threads,
                Err(_) => {
                    return config_err!("vexact.threads: expected a number of threads (0 for all), got {value:?}");
                }
            },
            "rewrite" => match value.to_ascii_lowercase().as_str() {
                "true" => self.rewrite = true,
                "false" => self.rewrite = false,
                _ => return config_err!("vexact.rewrite: expected one of true, false, got {value:?}"),
            },
            _ => {
                return config_err!(
                    "unknown setting vexact.{key}: expected one of vexact.tier, vexact.threads, vexact.rewrite"
                );
            }
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value: String, description| ConfigEntry {
            key: format!("{}.{key}", Self::PREFIX),
            value: Some(value),
            description,
        };
        vec![
            entry("tier", self.tier.to_string(), "Source of the bounds of a vector search: auto, f32"),
            entry("threads", self.threads.to_string(), "Threads of one vector search; 0 for all"),
            entry("rewrite", self.rewrite.to_string(), "Whether ORDER BY distance LIMIT k becomes a vector search"),
        ]
    }
}
