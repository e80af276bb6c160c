//! The settings `vexact.*`, for a session or by `SET`.

use std::any::Any;
use std::time::Duration;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{DataFusionError, Result, config_err};
use vexact_kernel::Tier;

/// `vexact.tier`, `vexact.threads`, `vexact.rewrite` and `vexact.timeout`.
#[derive(Debug, Clone)]
pub struct VexactOptions {
    /// The source of bounds: `auto`, `f32` (also called `off`: no sketches), `i8` or `pca4`.
    pub tier: Tier,
    /// Threads of one search; 0 for all.
    pub threads: usize,
    /// True if `ORDER BY distance LIMIT k` is rewritten into a vector search.
    pub rewrite: bool,
    /// Timeout of a query; `None` if there is no timeout.
    pub timeout: Option<Duration>,
}

impl Default for VexactOptions {
    fn default() -> Self {
        Self { tier: Tier::Auto, threads: 0, rewrite: true, timeout: None }
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
            "timeout" => self.timeout = parse_timeout(value)?,
            _ => {
                return config_err!(
                    "unknown setting vexact.{key}: expected one of vexact.tier, vexact.threads, vexact.rewrite, vexact.timeout"
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
            entry(
                "tier",
                self.tier.to_string(),
                "Source of the bounds of a vector search: auto, f32 or off (no sketches), i8, pca4",
            ),
            entry("threads", self.threads.to_string(), "Threads of one vector search; 0 for all"),
            entry("rewrite", self.rewrite.to_string(), "Whether ORDER BY distance LIMIT k becomes a vector search"),
            entry("timeout", timeout_text(self.timeout), "How long a query may run, as in 500ms, 10s, 2m; 0 for ever"),
        ]
    }
}

/// A time as `500ms`, `10s`, `2m` or `1h`; seconds without a unit; 0 for none.
fn parse_timeout(value: &str) -> Result<Option<Duration>> {
    const UNITS: [(&str, f64); 5] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let text = value.trim().to_ascii_lowercase();
    let number = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = UNITS.iter().find(|(name, _)| *name == &text[number.len()..]).map(|(_, seconds)| *seconds);
    let unit = unit.or(number.len().eq(&text.len()).then_some(1.0));
    let seconds = unit.and_then(|unit| Some(number.trim().parse::<f64>().ok()? * unit));
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(Duration::ZERO) => Ok(None),
        Some(timeout) => Ok(Some(timeout)),
        None => config_err!("vexact.timeout: expected a time as in 500ms, 10s or 2m (0 for none), got {value:?}"),
    }
}

fn timeout_text(timeout: Option<Duration>) -> String {
    match timeout {
        None => "0".into(),
        Some(timeout) if timeout.subsec_millis() == 0 && timeout.subsec_micros() == 0 => {
            format!("{}s", timeout.as_secs())
        }
        Some(timeout) if timeout.subsec_micros() % 1000 == 0 => format!("{}ms", timeout.as_millis()),
        Some(timeout) => format!("{}us", timeout.as_micros()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("10s", Some(Duration::from_secs(10))),
            ("1.5", Some(Duration::from_millis(1500))),
            ("2m", Some(Duration::from_secs(120))),
            ("7us", Some(Duration::from_micros(7))),
            ("0", None),
        ] {
            let parsed = parse_timeout(text).unwrap();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parse_timeout(&timeout_text(parsed)).unwrap(), expected, "{text}");
        }
        for text in ["", "s", "-1", "10 parsecs", "nan", "1e300"] {
            let error = parse_timeout(text).unwrap_err().to_string();
            assert!(error.contains("vexact.timeout: expected a time"), "{text}: {error}");
        }
    }
}
