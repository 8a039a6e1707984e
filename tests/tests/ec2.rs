//! Instances of EC2, against moto, which plays AWS: `pip install 'moto[ec2,server]'`, and WINDFALL_MOTO names its server.
#![allow(missing_docs)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actors::providers::Provider;
use actors::providers::ec2::Ec2Provider;
use actors::settings;
use vocabulary::{Resources, VmId, VmKind};

struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn instances_are_run_once_listed_by_tag_and_terminated() {
    let Some(program) = std::env::var_os("WINDFALL_MOTO") else {
        println!("skipped: WINDFALL_MOTO does not name a moto_server");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(program);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null());
    let _moto = Moto(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("moto starts"));
    let until = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "moto does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    // SAFETY: there is no other thread yet that reads the environment.
    unsafe {
        std::env::set_var("AWS_ACCESS_KEY_ID", "testing");
        std::env::set_var("AWS_SECRET_ACCESS_KEY", "testing");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(with_moto(format!("http://127.0.0.1:{port}")));
}

async fn with_moto(endpoint: String) {
    let settings = settings::Ec2 {
        region: "eu-north-1".into(),
        image: "ami-12c6146b".into(),
        endpoint: endpoint.clone(),
        ..settings::Ec2::default()
    };
    let secret = vec![("WINDFALL_NATS__PASSWORD".to_owned(), "it's \"secret\"".to_owned())];
    let ours = Ec2Provider::open(&settings, "ours", secret.clone()).unwrap();
    let other = Ec2Provider::open(&settings, "other", secret).unwrap();
    assert!(ours.list().await.unwrap().is_empty());
    let size = Resources::new(2_000, 8_192);
    for _ in 0..2 {
        ours.launch(VmId(0x1f), VmKind::Harvest, size).await.unwrap();
    }
    ours.launch(VmId(3), VmKind::Regular, size).await.unwrap();
    other.launch(VmId(3), VmKind::Regular, size).await.unwrap();
    assert_eq!(ours.list().await.unwrap(), [VmId(3), VmId(0x1f)]);
    assert_eq!(other.list().await.unwrap(), [VmId(3)]);
    // Spot where it is a harvest VM, as moto's own page tells.
    let page = reqwest::get(format!("{endpoint}/moto-api/data.json")).await.unwrap().text().await.unwrap();
    assert!(page.contains("windfall:vm"), "moto knows the tags");
    ours.retire(VmId(0x1f)).await.unwrap();
    ours.retire(VmId(0x1f)).await.unwrap();
    assert_eq!(ours.list().await.unwrap(), [VmId(3)]);
    let ended = tokio::time::timeout(Duration::from_secs(10), ours.next_ended()).await;
    assert_eq!(ended, Ok(VmId(0x1f)));
    ours.retire_all().await;
    assert!(ours.list().await.unwrap().is_empty());
    assert_eq!(other.list().await.unwrap(), [VmId(3)], "another cluster's VMs are not touched");
    other.retire_all().await;
    of_several_types_one_is_taken(settings, &endpoint).await;
}

/// AWS chooses of several types; moto takes each in turn.
async fn of_several_types_one_is_taken(settings: settings::Ec2, endpoint: &str) {
    let settings = settings::Ec2 { instance_type: "m5.large, m5a.large,m6i.large".into(), ..settings };
    let secret = vec![("WINDFALL_NATS__PASSWORD".to_owned(), "secret".to_owned())];
    let ours = Ec2Provider::open(&settings, "several", secret).unwrap();
    let size = Resources::new(2_000, 8_192);
    for (vm, kind) in [(1, VmKind::Harvest), (2, VmKind::Harvest), (3, VmKind::Regular), (1, VmKind::Harvest)]
    {
        ours.launch(VmId(vm), kind, size).await.unwrap();
    }
    assert_eq!(ours.list().await.unwrap(), [VmId(1), VmId(2), VmId(3)]);
    let known = async || -> serde_json::Value {
        reqwest::get(format!("{endpoint}/moto-api/data.json")).await.unwrap().json().await.unwrap()
    };
    let state = known().await;
    let of = |what: &str| state["ec2"][what].as_array().cloned().unwrap_or_default();
    assert_eq!(of("LaunchTemplate").len(), 1, "one template serves them all");
    let fleets = of("Fleet");
    assert_eq!(fleets.len(), 3, "one fleet for each VM, and none for one that is there");
    assert!(fleets.iter().all(|fleet| fleet["fleet_type"] == "instant"), "{fleets:?}");
    let bought = |fleet: &serde_json::Value| fleet["instances"][0]["Lifecycle"].as_str().map(str::to_owned);
    let mut bought: Vec<_> = fleets.iter().filter_map(bought).collect();
    bought.sort();
    assert_eq!(bought, ["on-demand", "spot", "spot"], "harvest VMs are spot instances");
    let offered = fleets[0]["launch_template_configs"][0]["Overrides"].as_array().expect("types").clone();
    assert_eq!(offered.len(), 3, "AWS may choose");
    ours.retire_all().await;
    assert!(ours.list().await.unwrap().is_empty());
    // moto's page keeps what is gone; its API does not, and asks for no signature but for the region in it.
    let ask = reqwest::Client::new()
        .post(endpoint)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=testing/20260101/eu-north-1/ec2/aws4_request, SignedHeaders=host, Signature=0")
        .body("Action=DescribeLaunchTemplates&Version=2016-11-15");
    let left = ask.send().await.unwrap().text().await.unwrap();
    assert!(left.contains("DescribeLaunchTemplatesResponse") && !left.contains("windfall-several"), "{left}");
}
