// Talks to the API; asks for a token when it must.

const dialog = document.getElementById("login");
let asking = null;

function askForToken(why) {
  asking ??= new Promise((resolve) => {
    document.getElementById("login-why").textContent = why;
    const done = () => {
      const field = document.getElementById("token");
      sessionStorage.setItem("token", field.value.trim());
      field.value = "";
      asking = null;
      resolve();
    };
    dialog.addEventListener("close", done, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function send(path, options) {
  for (;;) {
    const token = sessionStorage.getItem("token");
    const headers = { Accept: "application/json", ...options.headers };
    if (token) headers.Authorization = `Bearer ${token}`;
    const response = await fetch(path, { ...options, headers });
    if (response.status !== 401) return response;
    const { detail } = await response.json();
    // If there is another token by now, this refusal is about an earlier one.
    if (sessionStorage.getItem("token") === token) await askForToken(detail);
  }
}

async function problemOf(response) {
  try {
    return (await response.json()).detail;
  } catch {
    return `the controller answers ${response.status}`;
  }
}

/** Gets a document. */
export async function get(path) {
  const response = await send(path, {});
  if (!response.ok) throw new Error(await problemOf(response));
  return response.json();
}

/** Sends a document and gets a text. */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json", Accept: "text/plain" };
  const response = await send(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(await problemOf(response));
  return response.text();
}

/** Calls `heard` with each event, for ever; comes back where it was after an interruption. */
export async function follow(heard) {
  let last = 0;
  for (;;) {
    try {
      const response = await send(`/v1/events?after=${last}`, { headers: { Accept: "text/event-stream" } });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          const line = event.split("\n").find((one) => one.startsWith("data: "));
          if (!line) continue;
          const data = JSON.parse(line.slice(6));
          if (data.id) last = data.id;
          heard(data);
        }
      }
    } catch {
      // The controller is away; it is asked again below.
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
