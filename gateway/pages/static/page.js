// What is pleasant but not needed: every page does its job without this file.
"use strict";

const here = new URL(location.href);
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

// Offer the names of all time zones while one is typed.
const zones = document.querySelector("#zones");
if (zones && Intl.supportedValuesOf) {
  zones.append(...Intl.supportedValuesOf("timeZone").map((name) => new Option(name, name)));
}

// Show times in the zone of this browser at once, unless the address says another.
const guess = document.querySelector("[data-guess-zone]");
if (guess && zone && !here.searchParams.has("zone") && guess.elements.zone.value !== zone) {
  here.searchParams.set("zone", zone);
  location.replace(here);
}

// A form is sent once, however often its button is pressed; coming back to the page makes it good again.
for (const form of document.querySelectorAll("form[data-once]")) {
  const button = form.querySelector("button");
  const text = [...button.childNodes];
  form.addEventListener("submit", (event) => {
    if (button.ariaDisabled === "true") return event.preventDefault();
    button.ariaDisabled = "true";
    button.replaceChildren(form.dataset.once);
  });
  addEventListener("pageshow", () => {
    button.ariaDisabled = null;
    button.replaceChildren(...text);
  });
}

// A button to copy what is there to be pasted elsewhere.
for (const block of navigator.clipboard ? document.querySelectorAll("[data-copy]") : []) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet copy";
  button.textContent = "Copy";
  button.ariaLive = "polite";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  block.after(button);
}
