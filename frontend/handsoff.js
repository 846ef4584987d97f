// Without hands: what a headset's button, a keyboard's media keys or the system's own call controls do. A browser shows
// and offers as much of it as it knows; nothing here is needed for a call.

const session = navigator.mediaSession;

export class HandsOff {
  #does;

  /** @param {() => void} toggle mutes or unmutes @param {() => void} end hangs up */
  constructor(toggle, end) {
    this.#does = { togglemicrophone: toggle, play: toggle, pause: toggle, hangup: end, stop: end };
  }

  /** @param {boolean} on in a call @param {boolean} muted */
  show(on, muted) {
    if (!session) return;
    if (on) session.metadata = new MediaMetadata({ title: document.title, artwork: [{ src: 'apple-touch-icon.png', sizes: '180x180' }] });
    else session.metadata = null;
    session.playbackState = !on ? 'none' : muted ? 'paused' : 'playing';
    session.setMicrophoneActive?.(on && !muted)?.catch?.(() => {});
    for (const [action, react] of Object.entries(this.#does)) {
      try {
        session.setActionHandler(action, on ? react : null);
      } catch {
        // an action that this browser does not know
      }
    }
  }
}
