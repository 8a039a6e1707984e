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
}
