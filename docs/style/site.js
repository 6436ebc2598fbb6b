// Tables and code that scroll sideways can be reached by keyboard.
"use strict";
function reach() {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}
window.addEventListener("load", () => setTimeout(reach, 0));
window.addEventListener("resize", reach);
