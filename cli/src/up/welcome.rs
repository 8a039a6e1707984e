//! What `windfall up` says when the cluster is ready.

use messages::FleetList;

use super::data_folder::DataFolder;
use crate::client::{Endpoint, PROPERTIES};
use crate::vm;

/// Whoever starts a cluster as a child waits for this line.
pub const READY: &str = "Windfall is ready.";

/// What there is.
pub fn status(endpoint: &Endpoint, folder: &DataFolder, fleet: &FleetList, own_nats: bool) -> String {
    let nats = endpoint.nats_url.as_deref().unwrap_or_default();
    let nats_note = if own_nats { "private, started here" } else { "yours" };
    format!(
        "\n{READY}\n\n\
         \x20 HTTP door   {}\n\
         \x20 NATS        {nats} ({nats_note})\n\
         \x20 namespace   guest\n\
         \x20 logs        {}\n\n{}\n",
        endpoint.base,
        folder.path("log").display(),
        indented(&vm::table(fleet)),
    )
}

/// How to use it, with the key.
pub fn how_to(endpoint: &Endpoint, folder: &DataFolder, after_demo: bool) -> String {
    let Endpoint { base, auth, .. } = endpoint;
    let nats = endpoint.nats_url.as_deref().unwrap_or_default();
    let (user, key) = auth.split_once(':').unwrap_or_default();
    let file = folder.path(PROPERTIES);
    let first =
        if after_demo { "" } else { "  windfall function create hello-python deploy/functions/hello.py\n" };
    format!(
        "For OpenWhisk's clients, ~/.wskprops (also in {file}):\n\
         \x20 APIHOST={base}\n\
         \x20 AUTH={auth}\n\n\
         Call a function:\n{first}\
         \x20 windfall invoke hello-python -p name You\n\
         \x20 curl -u {auth} -H 'Content-Type: application/json' -d '{{\"name\":\"You\"}}' \\\n\
         \x20   '{base}/api/v1/namespaces/_/actions/hello-python?blocking=true&result=true'\n\
         \x20 nats --server {nats} --user {user} --password {key} \\\n\
         \x20   request windfall.invoke.guest.hello-python '{{\"name\":\"You\"}}'\n\n\
         Look around: windfall vm list | windfall activation list | windfall function list\n\
         Ctrl-C stops everything that was started here.\n",
        file = file.display(),
    )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
