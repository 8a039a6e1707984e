//! VMs from AWS: one EC2 instance each, spot where they are harvest VMs.
//!
//! **Knows:** instances by their tags `windfall:cluster` and `windfall:vm`.
//! **Promises:** one instance per VM: the id is EC2's own `ClientToken`, and an instance that carries the tag is not made
//! again. Instances demand IMDSv2, and end themselves when `windfall vm` has ended. Secrets go into user data, which
//! only the instance and the account's administrators read.
//! One instance type is launched by `RunInstances`; of several AWS chooses, by `CreateFleet` (`fleet`).
//! **Gives up:** the size that is asked for, which is not looked at, and TLS unless the cargo feature `tls` is built in:
//! without it only an `http://` endpoint works.

mod fleet;
mod sign;
mod xml;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use vocabulary::{Resources, VmId, VmKind};

use super::departed::Departed;
use super::{Provider, ProviderError};
use crate::settings;
use sign::Credentials;
use xml::Element;

/// The longest answer that is read: a thousand instances take about 4 MiB.
const ANSWER_MAX: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const CLUSTER: &str = "windfall:cluster";
const VM: &str = "windfall:vm";
const KIND: &str = "windfall:kind";

/// VMs of one cluster in one region.
pub struct Ec2Provider {
    settings: settings::Ec2,
    cluster: String,
    environment: Vec<(String, String)>,
    endpoint: String,
    host: String,
    client: reqwest::Client,
    departed: Departed,
    listing: Mutex<()>,
}

impl Ec2Provider {
    /// As configured. Credentials come from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    pub fn open(
        settings: &settings::Ec2,
        cluster: &str,
        environment: Vec<(String, String)>,
    ) -> Result<Self, ProviderError> {
        let trouble = |what: String| ProviderError::Setup(format!("the provider 'ec2': {what}"));
        for (name, value) in [("ec2.region", &settings.region), ("ec2.image", &settings.image)] {
            if value.is_empty() {
                return Err(trouble(format!("{name} is not set")));
            }
        }
        credentials().map_err(trouble)?;
        let endpoint = match settings.endpoint.trim_end_matches('/') {
            "" => format!("https://ec2.{}.amazonaws.com", settings.region),
            endpoint => endpoint.to_owned(),
        };
        if endpoint.starts_with("https://") && !cfg!(feature = "tls") {
            return Err(trouble(format!(
                "{endpoint} needs TLS: build with `cargo build -p windfall --features tls`"
            )));
        }
        let (_, host) =
            endpoint.split_once("://").ok_or_else(|| trouble(format!("'{endpoint}' is no endpoint")))?;
        #[cfg(feature = "tls")]
        // The NATS client may have chosen the same before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).build();
        Ok(Self {
            host: host.to_owned(),
            endpoint,
            client: client.map_err(|error| trouble(error.to_string()))?,
            settings: settings.clone(),
            cluster: cluster.to_owned(),
            environment,
            departed: Departed::new(),
            listing: Mutex::new(()),
        })
    }

    async fn ask(&self, action: &str, mut parameters: Vec<(String, String)>) -> Result<Element, String> {
        parameters.push(("Action".into(), action.into()));
        parameters.push(("Version".into(), "2016-11-15".into()));
        let body = sign::form(&parameters);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let request = sign::Request {
            host: &self.host,
            region: &self.settings.region,
            service: "ec2",
            body: &body,
            now: now.map_or(0, |since| since.as_secs()),
        };
        let headers = sign::headers(&request, &credentials()?);
        let mut post = self.client.post(format!("{}/", self.endpoint)).header("content-type", sign::FORM);
        for (name, value) in headers {
            post = post.header(name, value);
        }
        let mut response = post.body(body).send().await.map_err(|error| format!("{action}: {error}"))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| format!("{action}: {error}"))? {
            if bytes.len() + chunk.len() > ANSWER_MAX {
                return Err(format!("{action}: an answer of more than {ANSWER_MAX} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let answer = xml::parse(&String::from_utf8_lossy(&bytes));
        match answer {
            Some(answer) if status.is_success() => Ok(answer),
            Some(answer) => {
                let error = answer.child("Errors").and_then(|errors| errors.child("Error"));
                let told =
                    error.map(|error| format!("{}: {}", error.text_of("Code"), error.text_of("Message")));
                Err(format!("{action}: {}", told.unwrap_or_else(|| status.to_string())))
            }
            None => Err(format!("{action}: {status}, and an answer that is no XML")),
        }
    }

    /// Instances that are there or coming, by VM.
    async fn instances(&self) -> Result<BTreeMap<VmId, Vec<String>>, String> {
        let mut found = BTreeMap::<VmId, Vec<String>>::new();
        let mut next = String::new();
        loop {
            let tag = format!("tag:{CLUSTER}");
            let mut parameters = filters(&[
                (tag.as_str(), &[self.cluster.as_str()]),
                ("instance-state-name", &["pending", "running"]),
            ]);
            parameters.push(("MaxResults".into(), "1000".into()));
            if !next.is_empty() {
                parameters.push(("NextToken".into(), next));
            }
            let answer = self.ask("DescribeInstances", parameters).await?;
            for instance in
                answer.items("reservationSet").flat_map(|reservation| reservation.items("instancesSet"))
            {
                let tag = instance.items("tagSet").find(|tag| tag.text_of("key") == VM);
                if let Some(vm) = tag.and_then(|tag| tag.text_of("value").parse().ok()) {
                    found.entry(vm).or_default().push(instance.text_of("instanceId").to_owned());
                }
            }
            next = answer.text_of("nextToken").to_owned();
            if next.is_empty() {
                return Ok(found);
            }
        }
    }

    async fn vms(&self) -> Result<Vec<VmId>, String> {
        let _in_order = self.listing.lock().await;
        let vms: Vec<VmId> = self.instances().await?.into_keys().collect();
        self.departed.listed(&vms);
        Ok(vms)
    }

    async fn run(&self, vm: VmId, kind: VmKind) -> Result<(), String> {
        if self.instances().await?.contains_key(&vm) {
            return Ok(());
        }
        let types = self.settings.instance_types();
        if let [one] = types[..] {
            self.run_one(vm, kind, one).await
        } else {
            self.run_any(vm, kind, &types).await
        }
    }

    /// By `RunInstances`.
    async fn run_one(&self, vm: VmId, kind: VmKind, instance_type: &str) -> Result<(), String> {
        let mut parameters = vec![
            own("InstanceType", instance_type),
            own("MinCount", "1"),
            own("MaxCount", "1"),
            // At most 64 characters of ASCII.
            own("ClientToken", &token(&self.cluster, vm)),
        ];
        let told = [("WINDFALL_VM__ID", vm.to_string()), ("WINDFALL_VM__KIND", kind.to_string())];
        let told = told.map(|(name, value)| format!("{name}={}\n", quoted(&value))).concat();
        parameters.extend(self.instance("", &self.user_data(&told, "")));
        parameters.extend(self.tags("TagSpecification.1", vm, kind));
        parameters.extend(set([("SubnetId", self.settings.subnet.as_str())]));
        if kind == VmKind::Harvest {
            parameters.push(own("InstanceMarketOptions.MarketType", "spot"));
            parameters.push(own("InstanceMarketOptions.SpotOptions.SpotInstanceType", "one-time"));
            parameters
                .push(own("InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior", "terminate"));
        }
        self.ask("RunInstances", parameters).await.map(drop)
    }

    /// What all instances have in common; as parameters below `prefix`.
    fn instance(&self, prefix: &str, user_data: &str) -> Vec<(String, String)> {
        let given = &self.settings;
        let encoded = base64::engine::general_purpose::STANDARD.encode(user_data);
        let all = set([
            ("ImageId", given.image.as_str()),
            ("InstanceInitiatedShutdownBehavior", "terminate"),
            ("MetadataOptions.HttpTokens", "required"),
            ("UserData", &encoded),
            ("SecurityGroupId.1", &given.security_group),
            ("KeyName", &given.key),
            ("IamInstanceProfile.Name", &given.profile),
        ]);
        all.map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
    }

    /// What an instance is found by, below `prefix`.
    fn tags(&self, prefix: &str, vm: VmId, kind: VmKind) -> Vec<(String, String)> {
        let name = format!("windfall {} {vm}", self.cluster);
        let tags =
            [(CLUSTER, self.cluster.clone()), (VM, vm.to_string()), (KIND, kind.to_string()), ("Name", name)];
        tagged(prefix, "instance", &tags)
    }

    /// What an instance does first: it becomes the VM, and ends with it. `told`: further lines of its environment;
    /// `asks`: shell that adds more.
    fn user_data(&self, told: &str, asks: &str) -> String {
        let line = |(name, value): &(String, String)| format!("{name}={}\n", quoted(value));
        let lines: String = self.environment.iter().map(line).collect();
        format!(
            "#!/bin/sh\nset -eu\numask 077\nmkdir -p /etc/windfall\ncat > /etc/windfall/vm.env <<'END-OF-WINDFALL'\n{lines}{told}\
             WINDFALL_VM__NOTICES=\"aws\"\nEND-OF-WINDFALL\n{asks}{}\nexec systemd-run --unit=windfall-vm --property=EnvironmentFile=/etc/windfall/vm.env \
             --property=Delegate=yes --property=ExecStopPost=/sbin/poweroff {} vm\n",
            self.settings.prepare, self.settings.program
        )
    }

    async fn terminate(&self, vm: VmId) -> Result<(), String> {
        let Some(ids) = self.instances().await?.remove(&vm) else { return Ok(()) };
        let numbered = ids.into_iter().enumerate();
        let parameters = numbered.map(|(number, id)| (format!("InstanceId.{}", number + 1), id)).collect();
        self.ask("TerminateInstances", parameters).await.map(drop)
    }
}

fn own(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Those that have a value.
fn set<const N: usize>(all: [(&str, &str); N]) -> impl Iterator<Item = (String, String)> {
    all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| own(name, value))
}

/// Tags of what will be made.
fn tagged(prefix: &str, what: &str, tags: &[(&str, String)]) -> Vec<(String, String)> {
    let mut parameters = vec![(format!("{prefix}.ResourceType"), what.to_owned())];
    for (number, (key, value)) in tags.iter().enumerate() {
        let tag = format!("{prefix}.Tag.{}", number + 1);
        parameters.push((format!("{tag}.Key"), (*key).to_owned()));
        parameters.push((format!("{tag}.Value"), value.clone()));
    }
    parameters
}

/// A value as systemd reads it from an environment file.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " "))
}

/// The same for every try of one VM.
fn token(cluster: &str, vm: VmId) -> String {
    let short: String = cluster.chars().filter(char::is_ascii).take(40).collect();
    format!("windfall-{short}-{:x}", vm.0).chars().take(64).collect()
}

fn filters(wanted: &[(&str, &[&str])]) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    for (number, (name, values)) in wanted.iter().enumerate() {
        let filter = format!("Filter.{}", number + 1);
        parameters.push((format!("{filter}.Name"), (*name).to_owned()));
        for (number, value) in values.iter().enumerate() {
            parameters.push((format!("{filter}.Value.{}", number + 1), (*value).to_owned()));
        }
    }
    parameters
}

fn credentials() -> Result<Credentials, String> {
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (key, secret) = (read("AWS_ACCESS_KEY_ID"), read("AWS_SECRET_ACCESS_KEY"));
    match (key, secret) {
        (Some(key), Some(secret)) => Ok(Credentials { key, secret, token: read("AWS_SESSION_TOKEN") }),
        _ => Err("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set".to_owned()),
    }
}

impl Provider for Ec2Provider {
    fn name(&self) -> &'static str {
        "ec2"
    }

    fn launch(&self, vm: VmId, kind: VmKind, _size: Resources) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(
            async move { self.run(vm, kind).await.map_err(|reason| ProviderError::Launch { vm, reason }) },
        )
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<VmId>, ProviderError>> {
        Box::pin(async { self.vms().await.map_err(ProviderError::Setup) })
    }

    fn retire(&self, vm: VmId) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(
            async move { self.terminate(vm).await.map_err(|reason| ProviderError::Retire { vm, reason }) },
        )
    }

    fn next_ended(&self) -> BoxFuture<'_, VmId> {
        Box::pin(self.departed.next())
    }

    fn tidy_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.delete_templates())
    }
}
