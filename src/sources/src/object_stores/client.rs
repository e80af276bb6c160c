//! Creates the client of a store from its URL and options.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, Error, ObjectStore, RetryConfig};
use url::Url;

use super::location::SCHEMES;

type Options = BTreeMap<String, String>;

/// Our own options: bounds of retries.
const RETRIES: [&str; 2] = ["max_retries", "retry_timeout"];
const MAX_RETRIES: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the client of a store; without options, from the environment.
///
/// # Errors
/// A scheme that is not supported; missing options.
pub(super) fn build(url: &Url, options: Option<&Options>) -> object_store::Result<Arc<dyn ObjectStore>> {
    let none = Options::new();
    let given = options.unwrap_or(&none);
    let retry = retry(given).map_err(|problem| Error::Generic { store: "options", source: problem.into() })?;
    // Each builder has its own type of key.
    macro_rules! configured {
        ($builder:expr, $key:ty) => {
            given
                .iter()
                .filter_map(|(key, value)| Some((key.parse::<$key>().ok()?, value)))
                .fold($builder.with_retry(retry), |builder, (key, value)| builder.with_config(key, value))
        };
    }
    let store: Arc<dyn ObjectStore> = match url.scheme() {
        "s3" | "s3a" => {
            let builder = if options.is_some() { AmazonS3Builder::new() } else { AmazonS3Builder::from_env() };
            let builder = builder.with_bucket_name(url.host_str().unwrap_or_default());
            Arc::new(configured!(builder, AmazonS3ConfigKey).build()?)
        }
        "gs" => {
            let builder = match options {
                Some(_) => GoogleCloudStorageBuilder::new(),
                None => GoogleCloudStorageBuilder::from_env(),
            };
            let builder = builder.with_bucket_name(url.host_str().unwrap_or_default());
            Arc::new(configured!(builder, GoogleConfigKey).build()?)
        }
        "az" | "azure" | "abfs" | "abfss" => {
            let builder =
                if options.is_some() { MicrosoftAzureBuilder::new() } else { MicrosoftAzureBuilder::from_env() };
            Arc::new(configured!(builder.with_url(url.as_str()), AzureConfigKey).build()?)
        }
        "http" | "https" => {
            let builder = HttpBuilder::new().with_url(&url[..url::Position::BeforePath]);
            let is_plain = url.scheme() == "http";
            let builder = builder.with_config(ClientConfigKey::AllowHttp, is_plain.to_string());
            Arc::new(configured!(builder, ClientConfigKey).build()?)
        }
        other => {
            let problem = format!("expected one of {}, got {other}", SCHEMES.join(", "));
            return Err(Error::Generic { store: "registry", source: problem.into() });
        }
    };
    Ok(store)
}

/// Rejects options that stores of a scheme do not have. The message has no values.
pub(super) fn check(scheme: &str, options: &Options) -> Result<(), String> {
    retry(options)?;
    let is_known = |key: &str| {
        RETRIES.contains(&key)
            || match scheme {
                "s3" | "s3a" => key.parse::<AmazonS3ConfigKey>().is_ok(),
                "gs" => key.parse::<GoogleConfigKey>().is_ok(),
                "http" | "https" => key.parse::<ClientConfigKey>().is_ok(),
                _ => key.parse::<AzureConfigKey>().is_ok(),
            }
    };
    match options.keys().find(|key| !is_known(key)) {
        None => Ok(()),
        Some(key) => {
            let usual = match scheme {
                "s3" | "s3a" => "access_key_id, secret_access_key, session_token, region, endpoint, allow_http",
                "gs" => "service_account_key, service_account_path",
                "http" | "https" => "allow_invalid_certificates, proxy_url, user_agent",
                _ => "account_name, account_key, sas_key, client_id, client_secret, tenant_id",
            };
            Err(format!("unknown option {key:?}: expected one such as {usual}, timeout, max_retries, retry_timeout"))
        }
    }
}

/// Returns the bounds of retries.
fn retry(options: &Options) -> Result<RetryConfig, String> {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
    let max_retries = match options.get("max_retries") {
        None => MAX_RETRIES,
        Some(text) => text.trim().parse().map_err(|_| "option max_retries: expected a whole number")?,
    };
    let retry_timeout = match options.get("retry_timeout") {
        None => RETRY_TIMEOUT,
        Some(text) => seconds(text).ok_or("option retry_timeout: expected a time such as \"30s\" or \"500ms\"")?,
    };
    Ok(RetryConfig { backoff, max_retries, retry_timeout })
}

fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(millis), _) => millis.trim().parse().ok().map(Duration::from_millis),
        (None, Some(seconds)) => seconds.trim().parse().ok().map(Duration::from_secs),
        (None, None) => text.parse().ok().map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_bounded_and_can_be_set() {
        let default = retry(&Options::new()).unwrap();
        assert_eq!((default.max_retries, default.retry_timeout), (4, Duration::from_secs(30)));
        let options = |timeout: &str| Options::from([("retry_timeout".to_owned(), timeout.to_owned())]);
        for (text, expected) in [("500ms", 500), ("2s", 2000), ("2 s", 2000), ("3", 3000)] {
            assert_eq!(retry(&options(text)).unwrap().retry_timeout, Duration::from_millis(expected), "{text}");
        }
        assert!(retry(&options("soon")).is_err());
    }

    #[test]
    fn each_scheme_has_its_client() {
        for (url, options) in [
            ("s3://bucket", vec![("access_key_id", "a"), ("secret_access_key", "b")]),
            ("s3a://bucket", vec![("skip_signature", "true")]),
            ("gs://bucket", vec![("google_skip_signature", "true")]),
            ("az://container", vec![("account_name", "devstoreaccount1"), ("use_emulator", "true")]),
            ("abfss://container@account.dfs.core.windows.net", vec![("account_key", "a2V5")]),
            ("http://127.0.0.1:1", vec![("timeout", "1s")]),
            ("https://host", vec![]),
        ] {
            let options: Options = options.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            let parsed = Url::parse(url).unwrap();
            check(parsed.scheme(), &options).unwrap();
            build(&parsed, Some(&options)).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
    }
}
