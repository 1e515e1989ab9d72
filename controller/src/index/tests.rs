//! Which changes reach whom.

use super::*;
use crate::{
    destination::endpoints::Endpoints,
    names::ServiceName,
    testing::{key, load, pod, service, settings},
};

fn endpoints_of(name: &str) -> Endpoints {
    let target = ServiceName {
        service: key("demo", name),
        hostname: None,
    };
    Endpoints { target, port: 80 }
}

fn web() -> String {
    service(
        "web",
        "",
        "{selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}",
    )
}

#[test]
fn an_answer_follows_what_concerns_it_and_nothing_else() {
    let mut index = Index::new(Cluster::new(settings()));
    let live = index.live::<Endpoints>();
    let mut answer = live.ask(endpoints_of("web"));
    let size = |answer: &watch::Receiver<Arc<_>>| {
        let set: &crate::destination::endpoints::EndpointSet = &answer.borrow();
        set.endpoints().len()
    };
    assert_eq!(size(&answer), 0);

    index.load(&load(&web()));
    assert!(
        answer.has_changed().expect("alive"),
        "the service exists now"
    );
    answer.mark_unchanged();

    let one = web() + &pod("web-0", "web", "10.0.0.1");
    index.load(&load(&one));
    assert!(answer.has_changed().expect("alive"));
    answer.mark_unchanged();
    assert_eq!(size(&answer), 1);

    let other = one.clone() + &pod("api-0", "api", "10.0.0.2");
    index.load(&load(&other));
    assert!(
        !answer.has_changed().expect("alive"),
        "a pod of another service"
    );

    // The pod's own proxy settings change, its endpoint does not.
    index.load(&load(
        &other.replace("annotations: {}", "annotations: {x: y}"),
    ));
    assert!(!answer.has_changed().expect("alive"), "an equal answer");

    index.load(&load(&web()));
    assert!(answer.has_changed().expect("alive"));
    assert_eq!(size(&answer), 0);
}

#[test]
fn who_asks_the_same_shares_the_answer() {
    let mut index = Index::new(Cluster::new(settings()));
    let live = index.live::<Endpoints>();
    index.load(&load(&web()));
    let (a, b) = (live.ask(endpoints_of("web")), live.ask(endpoints_of("web")));
    assert!(Arc::ptr_eq(&a.borrow(), &b.borrow()));
    assert_eq!(live.followed(), 1);
}

#[test]
fn what_nobody_follows_is_dropped() {
    let mut index = Index::new(Cluster::new(settings()));
    let live = index.live::<Endpoints>();
    for name in 0..1000 {
        live.ask(endpoints_of(&name.to_string()));
    }
    assert!(live.followed() <= 64, "{}", live.followed());
    let kept = live.ask(endpoints_of("kept"));
    index.load(&load(&web()));
    assert_eq!(live.followed(), 1);
    drop(kept);
}

#[tokio::test]
async fn who_follows_hears_of_the_end() {
    let mut index = Index::new(Cluster::new(settings()));
    let live = index.live::<Endpoints>();
    index.load(&load(&web()));
    let mut before = live.ask(endpoints_of("web"));
    live.close();
    assert!(before.changed().await.is_err());
    // Still answered, and then over.
    let mut after = live.ask(endpoints_of("web"));
    assert_eq!(after.borrow_and_update().service, key("demo", "web"));
    assert!(after.changed().await.is_err());
    assert_eq!(live.followed(), 0);
}

#[test]
fn a_slice_is_concerned_by_a_pod_that_it_names_whatever_its_address() {
    let mut index = Index::new(Cluster::new(settings()));
    let live = index.live::<Endpoints>();
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {name: a, namespace: demo, labels: {kubernetes.io/service-name: web}}\n\
                 addressType: IPv4\nports: [{port: 8080}]\n\
                 endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-0}}]\n";
    let web = service("web", "", "{ports: [{port: 80, targetPort: 8080}]}");
    let all = web + slice + &pod("web-0", "web", "''");
    index.load(&load(&all));
    let answer = live.ask(endpoints_of("web"));
    let other = all.replace("serviceAccountName: sa", "serviceAccountName: other");
    index.load(&load(&other));
    assert!(answer.has_changed().expect("alive"));
}
