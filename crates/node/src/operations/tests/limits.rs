//! Visitors who are slow, many, or long-winded. In paused time.

use tokio::{
    io::{DuplexStream, duplex},
    time::{Instant, advance},
};

use super::*;
use crate::tls::memory::Memory;

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\n\r\n";

fn reception() -> (watch::Sender<()>, Reception<Pages>) {
    let (logging, _subscriber, _) = to_memory("error");
    let (stop, stopped) = watch::channel(());
    let vitals = Vitals::default();
    let reception = Reception {
        tls: None,
        only_here: None,
        answers: Pages {
            shown: Arc::new(shown(vitals, logging)),
            metrics: true,
            dashboard: false,
        },
        stopped,
    };
    (stop, reception)
}

fn spawned(work: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    tasks
}

/// The visitor's end of a connection.
struct Visit {
    io: DuplexStream,
    started: Instant,
    served: JoinSet<()>,
    _stop: watch::Sender<()>,
}

impl Visit {
    /// With so many bytes under way.
    fn of_pipe(len: usize) -> Self {
        let (io, theirs) = duplex(len);
        let (_stop, reception) = reception();
        Self {
            io,
            started: Instant::now(),
            served: spawned(reception.converse(theirs, true)),
            _stop,
        }
    }

    fn new() -> Self {
        Self::of_pipe(1 << 20)
    }

    async fn say(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    /// The first line of the next answer; none if the connection has ended.
    async fn status(&mut self) -> Option<String> {
        let mut bytes = vec![0; 1 << 16];
        let len = self.io.read(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
        text.lines().next().map(str::to_owned)
    }

    /// How long it was served. The visitor holds on until then.
    async fn served(&mut self) -> Duration {
        self.served.join_next().await.unwrap().unwrap();
        self.started.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_gets_to_its_end_ends_the_connection() {
    let mut visit = Visit::new();
    visit.say("GET /healthz HTTP/1.1\r\nHost:").await;
    for _ in 0..9 {
        sleep(Duration::from_secs(1)).await;
        visit.say("x").await;
    }
    assert_eq!(visit.served().await.as_secs(), HEAD_TIME_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_says_nothing_more_is_let_go() {
    let mut visit = Visit::new();
    visit.say(HEALTHZ).await;
    assert_eq!(visit.status().await.unwrap(), "HTTP/1.1 200 OK");
    assert_eq!(visit.served().await.as_secs(), HEAD_TIME_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_always_has_another_question_is_let_go_too() {
    let mut visit = Visit::new();
    let mut answers = 0;
    loop {
        sleep(HEAD_TIME_MAX / 2).await;
        if visit.io.write_all(HEALTHZ.as_bytes()).await.is_err() {
            break;
        }
        match visit.status().await {
            Some(status) => assert_eq!(status, "HTTP/1.1 200 OK"),
            None => break,
        }
        answers += 1;
    }
    let most = CONNECTION_TIME_MAX.as_secs() / (HEAD_TIME_MAX / 2).as_secs();
    assert!((most - 1..=most).contains(&answers), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_is_given_up() {
    let mut visit = Visit::of_pipe(64);
    visit.say("GET /metrics HTTP/1.1\r\n\r\n").await;
    assert_eq!(visit.served().await.as_secs(), STALL_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_body_has_its_time_and_its_length() {
    let mut slow = Visit::new();
    slow.say("PUT /logspec HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
        .await;
    let status = slow.status().await.unwrap();
    assert_eq!(status, "HTTP/1.1 408 Request Timeout");
    assert_eq!(slow.started.elapsed().as_secs(), 10);

    const BODY_BYTES_MAX: usize = 64 << 10;
    for (len, expected) in [
        (BODY_BYTES_MAX, "HTTP/1.1 400 Bad Request"),
        (BODY_BYTES_MAX + 1, "HTTP/1.1 413 Payload Too Large"),
    ] {
        let mut visit = Visit::new();
        let blanks = " ".repeat(len);
        let request = format!("PUT /logspec HTTP/1.1\r\nContent-Length: {len}\r\n\r\n{blanks}");
        visit.say(&request).await;
        assert_eq!(visit.status().await.unwrap(), expected, "{len}");
        let mut visit = Visit::new();
        let chunk = format!("{len:x}\r\n{blanks}\r\n0\r\n\r\n");
        visit
            .say("PUT /logspec HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        visit.say(&chunk).await;
        assert_eq!(visit.status().await.unwrap(), expected, "{len} in chunks");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_length_and_its_number_of_fields() {
    const TOO_LARGE: &str = "HTTP/1.1 431 Request Header Fields Too Large";
    const FINE: &str = "HTTP/1.1 200 OK";
    let long = |len: usize| format!("A: {}\r\n", "x".repeat(len));
    let many = |count: usize| "A: x\r\n".repeat(count);
    for (fields, expected) in [
        (long(HEAD_BYTES_MAX - 100), FINE),
        (long(HEAD_BYTES_MAX), TOO_LARGE),
        (many(HEADERS_MAX), FINE),
        (many(HEADERS_MAX + 1), TOO_LARGE),
    ] {
        let mut visit = Visit::new();
        visit
            .say(&format!("GET /healthz HTTP/1.1\r\n{fields}\r\n"))
            .await;
        let status = visit.status().await.unwrap();
        assert_eq!(status, expected, "{} bytes", fields.len());
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_are_served_at_once_and_the_next_waits() {
    let network = Memory::default();
    let (_stop, reception) = reception();
    let _serving = spawned(reception.run(network.listen("here")));
    let mut inside: Vec<_> = (0..CONNECTIONS_MAX)
        .map(|_| network.connect("here").unwrap())
        .collect();
    let mut answer = [0; 15];
    for visit in &mut inside {
        visit.write_all(HEALTHZ.as_bytes()).await.unwrap();
        visit.read_exact(&mut answer).await.unwrap();
    }
    let mut next = network.connect("here").unwrap();
    next.write_all(HEALTHZ.as_bytes()).await.unwrap();
    advance(HEAD_TIME_MAX / 2).await;
    let waited = timeout(Duration::from_secs(1), next.read_exact(&mut answer)).await;
    assert!(waited.is_err(), "one more than the limit is served");
    inside.pop();
    next.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_visitors() {
    let network = Memory::default();
    let (stop, reception) = reception();
    let mut serving = spawned(reception.run(network.listen("here")));
    let mut idle = network.connect("here").unwrap();
    idle.write_all(HEALTHZ.as_bytes()).await.unwrap();
    idle.read_exact(&mut [0; 15]).await.unwrap();
    let mut slow = network.connect("here").unwrap();
    slow.write_all(b"PUT /logspec HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    drop(stop);
    serving.join_next().await.unwrap().unwrap();
    assert!(asked.elapsed() <= 2 * LAST_ANSWER_TIME_MAX);
    assert!(network.connect("here").is_err(), "nobody listens any more");
}
