package wording_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/language"

	"github.com/ens-operator/ens-operator/runtime/push/wording"
)

func TestTheDevicesLanguageIsFound(t *testing.T) {
	t.Parallel()
	for locale, want := range map[string]string{
		"":                        "New message",
		"en":                      "New message",
		"en-GB":                   "New message",
		"de":                      "Neue Nachricht",
		"de-AT":                   "Neue Nachricht",
		"de_CH":                   "Neue Nachricht",
		"DE":                      "Neue Nachricht",
		"fr-CA":                   "Nouveau message",
		"es-419":                  "Mensaje nuevo",
		"pt_BR":                   "Nova mensagem",
		"nb-NO":                   "Ny melding",
		"nn":                      "Ny melding",
		"zh-Hans-CN":              "新邮件",
		"zh-CN":                   "新邮件",
		"zh-TW":                   "新郵件",
		"zh-HK":                   "新郵件",
		"ja-JP":                   "新着メッセージ",
		"ru-UA":                   "Новое сообщение",
		"tlh":                     "New message",
		"x":                       "New message",
		"!!":                      "New message",
		"de-\xff":                 "Neue Nachricht",
		strings.Repeat("de-", 40): "Neue Nachricht",
	} {
		if got := wording.NewMessage(locale); got != want {
			t.Errorf("%q: %q, want %q", locale, got, want)
		}
	}
}

func TestNumbersTakeTheirFormOfTheLanguage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		locale string
		count  int
		want   string
	}{
		{"en", 1, "1 new message"}, {"en", 4, "4 new messages"}, {"de", 4, "4 neue Nachrichten"},
		{"pl", 1, "1 nowa wiadomość"}, {"pl", 3, "3 nowe wiadomości"}, {"pl", 5, "5 nowych wiadomości"}, {"pl", 22, "22 nowe wiadomości"},
		{"cs", 4, "4 nové zprávy"}, {"cs", 5, "5 nových zpráv"},
		{"ru", 1, "1 новое сообщение"}, {"ru", 3, "3 новых сообщения"}, {"ru", 11, "11 новых сообщений"}, {"ru", 21, "21 новое сообщение"},
		{"ja", 7, "新着メッセージ7件"}, {"tr", 2, "2 yeni mesaj"},
	} {
		if got := wording.NewMessages(test.locale, test.count); got != test.want {
			t.Errorf("%s %d: %q, want %q", test.locale, test.count, got, test.want)
		}
	}
}

func TestEveryLanguageSaysEverything(t *testing.T) {
	t.Parallel()
	languages := wording.Languages()
	if len(languages) < 10 || languages[0] != language.English {
		t.Errorf("there are %d languages, the first one is %s", len(languages), languages[0])
	}
	seen := map[string]language.Tag{}
	for _, tag := range languages {
		text := wording.NewMessage(tag.String())
		if other, twice := seen[text]; twice {
			t.Errorf("%s and %s say the same: %q", tag, other, text)
		}
		seen[text] = tag
		for count := 1; count <= 125; count++ {
			if got := wording.NewMessages(tag.String(), count); strings.Contains(got, "%!") || !strings.ContainsAny(got, "0123456789") {
				t.Errorf("%s %d: %q", tag, count, got)
			}
		}
	}
}

// FuzzLocale takes whatever a device calls its language.
func FuzzLocale(f *testing.F) {
	for _, locale := range []string{"", "de", "zh-Hant-TW", "en-u-co-phonebk", "x-klingon", "de-\xff", "i-default"} {
		f.Add(locale, 3)
	}
	f.Fuzz(func(t *testing.T, locale string, count int) {
		if len(locale) > 128 {
			return // what a device may send
		}
		if got := wording.NewMessages(locale, count); got == "" || !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
		if got := wording.NewMessage(locale); got == "" || !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
	})
}
