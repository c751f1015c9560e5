package debian

import "github.com/tulle-mesh/tulle/test/cluster/image"

// The images that tests use.
var (
	// Nginx serves /var/www/html on port 80 as Debian's does after its installation; with a
	// configuration of its own: args [-c, /path/of/nginx.conf], mounted from a ConfigMap. It gets no
	// preStop and ends fast on SIGTERM, as packaged.
	Nginx = Recipe{
		Name: "nginx", Packages: []string{"nginx"},
		Config: image.Config{Entrypoint: []string{"/usr/sbin/nginx", "-g", "daemon off;"}},
		Dirs:   map[string]int{"/var/log/nginx": uidWWW, "/var/lib/nginx": uidWWW, "/var/www/html": 0},
		Links: map[string]string{
			"/etc/nginx/sites-enabled/default":      "/etc/nginx/sites-available/default",
			"/var/www/html/index.nginx-debian.html": "/usr/share/nginx/html/index.html",
			"/var/log/nginx/error.log":              "/dev/stderr",
			"/var/log/nginx/access.log":             "/dev/stdout",
		},
	}
	// PostgreSQL has server and psql in /usr/lib/postgresql/VERSION/bin; user postgres (100).
	PostgreSQL = Recipe{
		Name: "postgresql", Packages: []string{"postgresql", "postgresql-client"},
		Dirs: map[string]int{"/var/lib/postgresql": uidPostgres, "/run/postgresql": uidPostgres},
	}
	// Redis has redis-server and redis-cli; user redis (101).
	Redis = Recipe{
		Name: "redis", Packages: []string{"redis-server", "redis-tools"},
		Config: image.Config{Entrypoint: []string{"/usr/bin/redis-server"}},
		Dirs:   map[string]int{"/var/lib/redis": uidRedis},
	}
	// MariaDB has mariadbd, mariadb-install-db and mariadb; user mysql (102).
	MariaDB = Recipe{
		Name: "mariadb", Packages: []string{"mariadb-server-core", "mariadb-client-core"},
		Dirs: map[string]int{"/var/lib/mysql": uidMySQL, "/run/mysqld": uidMySQL},
	}
	// Exim is an SMTP server: /usr/sbin/exim4 -bd -oX PORT -C FILE.
	Exim = Recipe{
		Name: "exim", Packages: []string{"exim4-daemon-light"},
		Dirs: map[string]int{"/var/spool/exim4": uidExim, "/var/log/exim4": uidExim},
	}
	// SSH has sshd, ssh-keygen and ssh; user visitor (1000) can be logged in as.
	SSH = Recipe{
		Name: "ssh", Packages: []string{"openssh-server", "openssh-client"},
		Dirs: map[string]int{"/run/sshd": 0},
	}
	// FTP is vsftpd; anonymous users see /srv/ftp.
	FTP = Recipe{
		Name: "ftp", Packages: []string{"vsftpd"},
		Dirs: map[string]int{"/srv/ftp": 0, "/run/vsftpd/empty": 0},
	}
	// Curl is a client for HTTP, FTP and SMTP.
	Curl = Recipe{Name: "curl", Packages: []string{"curl"}}
)

// assumed are packages that apt is told are there: maintainer scripts need them, or features that no test
// uses, and servers that run do not. They are most of what a server would bring.
const assumed = "adduser base-files coreutils cpio cron cron-daemon-common debconf debianutils dpkg exim4-config gawk init-system-helpers iproute2 " +
	"libdbi-perl libjson-perl lsb-base lsof mawk netbase passwd perl perl-base perl-modules procps psmisc rsync runit-helper sensible-utils " +
	"socat ssl-cert systemd sysvinit-utils tzdata ucf util-linux locales locales-all logrotate " +
	"libllvm14 libllvm15 libllvm16 libllvm17 libllvm18 libllvm19 libllvm20 libllvm21"
