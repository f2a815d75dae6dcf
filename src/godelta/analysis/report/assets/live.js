"use strict";
// The page fetches itself and takes over what is live, as long as somebody looks at it.
setInterval(async () => {
  if (document.hidden) return;
  const lost = document.getElementById("lost");
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const live = document.getElementById("live");
    const left = live.querySelector(".scroll")?.scrollLeft ?? 0;
    const focused = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    live.replaceWith(document.adoptNode(page.getElementById("live")));
    const now = document.getElementById("live");
    if (now.querySelector(".scroll")) now.querySelector(".scroll").scrollLeft = left;
    if (focused) now.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    lost.hidden = true;
  } catch (error) {
    lost.hidden = false;
  }
}, 3000);
