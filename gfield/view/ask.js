// Questions to the server; what it refuses is an error with its one line.

export class Refused extends Error {
  constructor(line, status) {
    super(line);
    this.gone = status === 410 || status === 0;
  }
}

let root = "";

export function pageOf(store) {
  root = store;
}

export async function ask(name, query = {}) {
  let answer;
  try {
    answer = await fetch(address(name, query));
  } catch {
    throw new Refused("No answer from gfield view. Is it still running?", 0);
  }
  if (answer.ok) return answer;
  let line = answer.statusText;
  try {
    line = (await answer.json()).error;
  } catch { /* the server's own words, then */ }
  throw new Refused(line, answer.status);
}

export async function askJson(name, query) {
  return (await ask(name, query)).json();
}

export async function askArray(name, query) {
  const answer = await ask(name, query);
  const told = (header) => (answer.headers.has(header) ? Number(answer.headers.get(header)) : null);
  return { bytes: await answer.arrayBuffer(), told };
}

export function address(name, query) {
  return `${name}?${new URLSearchParams({ store: root, ...query })}`;
}

// A job that is asked for again while it is done is done once more after, for the newest wish alone.
export function latest(job) {
  let running = false;
  let again = false;
  return async () => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await job();
      }
    } finally {
      running = false;
    }
  };
}
