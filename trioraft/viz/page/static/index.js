/* The list of runs has one thing that moves: the theme. */

new Theme(byId("theme-button"), () => {});
