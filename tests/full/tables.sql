-- Every type and every kind of key. Statements end in `;` at the end of a line. Runs in a database of its own.

CREATE TABLE num (
  id bigint unsigned NOT NULL PRIMARY KEY,
  b1 bool, t1 tinyint, t1u tinyint unsigned, s1 smallint, s1u smallint unsigned,
  m1 mediumint, m1u mediumint unsigned, i1 int, i1u int unsigned, z1 int(8) unsigned zerofill,
  g1 bigint, g1u bigint unsigned, f1 float, f2 float(7,3), f1u float unsigned,
  d1 double, d2 double(10,4), c1 decimal(10,0), c2 decimal(20,6), c3 decimal(65,30), c4 decimal(5,2) unsigned,
  bt1 bit(1), bt10 bit(10), bt64 bit(64), y1 year
);
INSERT INTO num VALUES
 (1, 1, -128, 0, -32768, 0, -8388608, 0, -2147483648, 0, 7, -9223372036854775808, 0, 1.1, -1234.567, 0.5, 3.141592653589793, 12.3456, -9999999999, -12345678901234.567891, 12345678901234567890123456789012345.123456789012345678901234567890, 999.99, b'1', b'0000000101', b'1111111111111111111111111111111111111111111111111111111111111111', 1901),
 (18446744073709551615, 0, 127, 255, 32767, 65535, 8388607, 16777215, 2147483647, 4294967295, 12345678, 9223372036854775807, 18446744073709551615, -3.4e38, 0.001, 3.4e38, -1.7976931348623157e308, 0.0001, 0, 0.000001, -0.000000000000000000000000000001, 0.01, b'0', b'1111111111', b'1', 2155),
 (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'0', b'0', b'0', 0);
UPDATE num SET f1=1e-10, d1=1e-300, c2=-0.5, bt64=255, y1=2020 WHERE id=4;
UPDATE num SET i1=i1 WHERE id=1;
UPDATE num SET g1u=18446744073709551614 WHERE id=18446744073709551615;

-- ---------- temporal ----------
CREATE TABLE tm (
  id int PRIMARY KEY, d date, dt datetime, dt3 datetime(3), dt6 datetime(6),
  ts timestamp NULL, ts3 timestamp(3) NULL, ts6 timestamp(6) NULL,
  t0 time, t3 time(3), t6 time(6), y year,
  upd timestamp NOT NULL DEFAULT '2001-02-03 04:05:06',
  dtd datetime DEFAULT '1999-12-31 23:59:59');
INSERT INTO tm (id,d,dt,dt3,dt6,ts,ts3,ts6,t0,t3,t6,y) VALUES
 (1,'1000-01-01','1000-01-01 00:00:00','1999-12-31 23:59:59.999','9999-12-31 23:59:59.999999','1970-01-01 00:00:01','2038-01-19 03:14:07.999','2024-02-29 12:34:56.789012','-838:59:59','-00:00:00.001','-12:34:56.654321',1999),
 (2,'9999-12-31','2020-02-29 00:00:00','2020-02-29 00:00:00.1','2020-02-29 00:00:00.000001','2024-03-10 02:30:00','2024-11-03 01:30:00.5','1991-04-14 00:30:00.000001','838:59:59','23:59:59.999','00:00:00.000000',0),
 (3,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
UPDATE tm SET ts='2000-01-01 00:00:00', t6='-00:00:01.5' WHERE id=3;
SET @@sql_mode='';
INSERT INTO tm (id,d,dt,ts,t0) VALUES (4,'0000-00-00','0000-00-00 00:00:00','0000-00-00 00:00:00','00:00:00'),(5,'2020-00-00','2020-01-00 00:00:00','2024-01-01 00:00:00','-00:00:01');
SET @@sql_mode=DEFAULT;
SET time_zone='Asia/Tokyo';
INSERT INTO tm (id,ts,dt) VALUES (6,'2024-06-01 09:00:00','2024-06-01 09:00:00');
SET time_zone='+00:00';

-- ---------- strings ----------
CREATE TABLE str (
  id int AUTO_INCREMENT PRIMARY KEY,
  c char(10), v varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, vb varchar(20) COLLATE utf8mb4_bin,
  u3 varchar(20) CHARACTER SET utf8, l1 varchar(20) CHARACTER SET latin1, asc1 varchar(10) CHARACTER SET ascii, gb varchar(20) CHARACTER SET gbk,
  bi binary(6), vbi varbinary(20), cb char(5) CHARACTER SET binary,
  tt tinytext, tx text, mt mediumtext, lt longtext, tb tinyblob, bl blob, mb mediumblob, lb longblob,
  e enum('a','b','c,d','it''s','中文'), s set('x','y','z'), j json);
INSERT INTO str (c,v,vb,u3,l1,asc1,gb,bi,vbi,cb,tt,tx,mt,lt,tb,bl,mb,lb,e,s,j) VALUES
 ('abc  ','héllo 😀👨‍👩‍👧','Ünï','中文','plain','ascii','中文GBK',x'0102',x'00ff00ff','ab','tiny','text\nline\t"q" \\ back','medium','long',x'00',x'deadbeef00',x'ff',x'0a0d1a00','a','x','{"k":[1,2.5,null,true,"中😀"],"a":{"b":-1},"big":18446744073709551615,"neg":-9223372036854775808,"f":1e100,"s":"<&>\\u0001\\n"}'),
 ('','','','','','','','','','','','','','','','','','','a','','""'),
 (NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL),
 ('x','O''Brien; DROP TABLE x; -- ','b','é',x'E9','z','a',x'010203040506',repeat(x'61',20),'q',repeat('t',255),repeat('é',1000),repeat('m',70000),repeat('l',100000),repeat('b',255),repeat(x'00',60000),repeat(x'ab',70000),repeat(x'cd',100000),'c,d','x,z','[]'),
 ('5',' lead','trail ','\0nul','%_','a','b',x'ff',x'fe','\0','0','0','0','0','0','0','0','0','it''s','x,y,z','{"a": 1, "a": 2, "": "empty key"}');
UPDATE str SET e='中文', s='', j=JSON_SET(j,'$.k[0]','changed') WHERE id=1;
SET @@sql_mode='';
UPDATE str SET e='nonsense' WHERE id=3;
SET @@sql_mode=DEFAULT;
UPDATE str SET v='HÉLLO 😀' WHERE id=1;
UPDATE str SET vb=NULL, tx='', bl='' WHERE id=4;
CREATE TABLE `weird ``name``; --` (`id col` int PRIMARY KEY, `sel ect` varchar(10), `中文列` int, `a``b` int);
INSERT INTO `weird ``name``; --` VALUES (1,'x',2,3);
UPDATE `weird ``name``; --` SET `中文列`=5;

-- ---------- generated columns ----------
CREATE TABLE gen (
  id int PRIMARY KEY, a int, b varchar(20), j json,
  v int AS (a+1) VIRTUAL, vnn int AS (a+5) VIRTUAL NOT NULL, st int AS (a*2) STORED, full varchar(40) AS (concat(b,'-',a)) STORED,
  jv varchar(20) AS (json_unquote(j->'$.n')) VIRTUAL, UNIQUE KEY ust(st), KEY kv(v));
INSERT INTO gen(id,a,b,j) VALUES (1,10,'x','{"n":"one"}'),(2,20,'y',NULL),(3,30,NULL,'{}');
UPDATE gen SET a=11 WHERE id=1;
UPDATE gen SET b='zz', j='{"n":"two"}' WHERE id=2;
UPDATE gen SET id=33 WHERE id=3;
CREATE TABLE genpk (a int, g int AS (a*10) STORED, v varchar(5), PRIMARY KEY(g) NONCLUSTERED);
INSERT INTO genpk(a,v) VALUES (1,'p'),(2,'q');
UPDATE genpk SET v='r' WHERE g=10;
UPDATE genpk SET a=7 WHERE g=20;

-- ---------- keys ----------
CREATE TABLE pk_cl (a varchar(20), b int, c datetime, d varchar(20), PRIMARY KEY(a,b,c) CLUSTERED);
INSERT INTO pk_cl VALUES ('k1',1,'2020-01-01 00:00:00','v'),('K1',1,'2020-01-01 00:00:00','v2'),('',0,'2020-01-01 00:00:00',NULL);
UPDATE pk_cl SET d='w' WHERE a='k1';
UPDATE pk_cl SET b=2 WHERE a='K1';
CREATE TABLE pk_ci (a varchar(20) COLLATE utf8mb4_general_ci, b int, PRIMARY KEY(a) CLUSTERED);
INSERT INTO pk_ci VALUES ('Abc ',1),('déf',2);
UPDATE pk_ci SET a='aBC' WHERE a='abc';
UPDATE pk_ci SET b=9 WHERE a='DEF';
REPLACE INTO pk_ci VALUES ('ABC',5);
CREATE TABLE pk_nc (a varchar(20), b int, d varchar(20), PRIMARY KEY(a,b) NONCLUSTERED);
INSERT INTO pk_nc VALUES ('x',1,'one'),('y',2,'two');
UPDATE pk_nc SET a='z' WHERE a='x';
UPDATE pk_nc SET d='three' WHERE b=2;
DELETE FROM pk_nc WHERE a='z';
CREATE TABLE pk_pre (a varchar(50), b int, PRIMARY KEY(a(3)) CLUSTERED);
INSERT INTO pk_pre VALUES ('abcdef',1),('abd',2);
UPDATE pk_pre SET a='abcxyz' WHERE b=1;
CREATE TABLE pk_bin (a varbinary(16), b int, PRIMARY KEY(a));
INSERT INTO pk_bin VALUES (x'00ff',1),(x'',2);
UPDATE pk_bin SET b=3 WHERE a=x'';
CREATE TABLE pk_dec (a decimal(10,3), ts timestamp(3), b int, PRIMARY KEY(a,ts) CLUSTERED);
INSERT INTO pk_dec VALUES (1.5,'2024-01-01 00:00:00.123',1);
UPDATE pk_dec SET b=2;
UPDATE pk_dec SET ts='2024-07-01 12:00:00';
CREATE TABLE pk_enum (e enum('a','b'), y year, b int, PRIMARY KEY(e,y) CLUSTERED);
INSERT INTO pk_enum VALUES ('b',2020,1),('a',1999,2);
UPDATE pk_enum SET b=3 WHERE e='b';
CREATE TABLE nopk (a int, b varchar(10), f float, j json);
INSERT INTO nopk VALUES (1,'dup',1.1,'{"a":1}'),(1,'dup',1.1,'{"a":1}'),(1,'dup',1.1,'{"a":1}'),(2,NULL,NULL,NULL),(NULL,NULL,NULL,NULL),(NULL,NULL,NULL,NULL);
UPDATE nopk SET b='one' WHERE a=1 LIMIT 1;
UPDATE nopk SET a=9 WHERE a IS NULL LIMIT 1;
CREATE TABLE uknull (a int, b varchar(10), c int, UNIQUE KEY ua(a), UNIQUE KEY ubc(b,c));
INSERT INTO uknull VALUES (1,'x',1),(NULL,'x',NULL),(NULL,NULL,NULL),(NULL,'x',NULL);
UPDATE uknull SET a=5 WHERE a=1;
UPDATE uknull SET c=4 WHERE a IS NULL AND b IS NULL;
CREATE TABLE uknn (a int NOT NULL, b int NOT NULL, c varchar(10) NOT NULL DEFAULT 'd', UNIQUE KEY(a,b));
INSERT INTO uknn(a,b) VALUES (1,1),(1,2);
UPDATE uknn SET b=b+10 WHERE a=1;
CREATE TABLE ukpre (id int PRIMARY KEY, a varchar(30), t text, UNIQUE KEY up(a(4)), UNIQUE KEY ut(t(8)));
INSERT INTO ukpre VALUES (1,'abcdX','text0001-a'),(2,'abceX','text0002-b');
DELETE FROM ukpre WHERE id=1;
INSERT INTO ukpre VALUES (3,'abcdY','text0001-z');
CREATE TABLE ukci (id int PRIMARY KEY, a varchar(30) COLLATE utf8mb4_unicode_ci, UNIQUE KEY ua(a));
INSERT INTO ukci VALUES (1,'Straße'),(2,'x');
REPLACE INTO ukci VALUES (3,'STRASSE');

-- ---------- handles ----------
CREATE TABLE h_unsigned (id bigint unsigned PRIMARY KEY, v varchar(10));
INSERT INTO h_unsigned VALUES (0,'a'),(1,'b'),(9223372036854775807,'c'),(9223372036854775808,'d'),(18446744073709551614,'e'),(18446744073709551615,'f');
CREATE TABLE h_signed (id bigint PRIMARY KEY, v int);
INSERT INTO h_signed VALUES (-9223372036854775808,1),(-5,2),(-1,3),(0,4),(7,5),(9223372036854775807,6);
CREATE TABLE h_random (id bigint AUTO_RANDOM(5) PRIMARY KEY, v int);
INSERT INTO h_random (v) VALUES (1),(2),(3);
INSERT INTO h_random (v) VALUES (4),(5),(6),(7);
INSERT INTO h_random (v) VALUES (8),(9),(10),(11);
INSERT INTO h_random (v) VALUES (12),(13),(14),(15);
CREATE TABLE h_shard (a int, b varchar(5)) SHARD_ROW_ID_BITS=4;
INSERT INTO h_shard VALUES (1,'a'),(1,'a'),(2,'b'),(NULL,NULL),(NULL,NULL),(3,'c');
INSERT INTO h_shard VALUES (1,'a'),(1,'a'),(2,'b'),(NULL,NULL),(NULL,NULL),(3,'c');
CREATE TABLE h_ci (a varchar(20) COLLATE utf8mb4_general_ci, b varchar(20) COLLATE utf8mb4_unicode_ci, c int, v int, PRIMARY KEY (a,b,c) CLUSTERED);
INSERT INTO h_ci VALUES ('a','x',1,1),('A','X',2,2),('a','y',1,3),('B','é',1,4),('b','E',2,5),('b','f',1,6),('B','F',2,7),('c','',0,8),('C ',' ',1,9),('d','it''s',3,10),('','',0,11),('ä','ß',1,12),('A','SS',9,13);
CREATE TABLE h_float (f float, d double, v int, PRIMARY KEY (f,d) CLUSTERED);
INSERT INTO h_float VALUES (1.1,1.1,1),(1.1,2.2,2),(-1.1,0.1,3),(3.4e38,1e300,4),(1e-10,-0.0,5),(0,0,6),(16777216,1,7);
CREATE TABLE h_time (t time(3), dt datetime(6), d date, b bit(10), s set('x','y','z'), v int, PRIMARY KEY (t,dt,d,b,s) CLUSTERED);
INSERT INTO h_time VALUES ('-838:59:59.000','2020-01-01 00:00:00.000001','2020-01-01',b'1','x',1),('-00:00:00.001','2020-01-01','2020-01-02',b'10','x,y',2),('00:00:00','1000-01-01','1000-01-01',b'0','',3),('838:59:59','9999-12-31 23:59:59.999999','9999-12-31',b'1111111111','x,y,z',4),('00:00:00','1000-01-01','1000-01-01',b'0','z',5);

-- ---------- partitions ----------
CREATE TABLE p_range (id int, d int, v varchar(10), PRIMARY KEY (id,d)) PARTITION BY RANGE (d) (PARTITION p0 VALUES LESS THAN (10), PARTITION `p 1` VALUES LESS THAN (20), PARTITION pmax VALUES LESS THAN MAXVALUE);
INSERT INTO p_range VALUES (1,1,'a'),(2,5,'b'),(3,9,'c'),(4,10,'d'),(5,15,'e'),(6,19,'f'),(7,20,'g'),(8,1000,'h'),(1,11,'i'),(1,21,'j');
CREATE TABLE p_hash (id int PRIMARY KEY, v int) PARTITION BY HASH (id) PARTITIONS 4;
INSERT INTO p_hash VALUES (1,1),(2,2),(3,3),(4,4),(5,5),(6,6),(7,7),(8,8),(9,9),(10,10);
CREATE TABLE p_list (id int, r varchar(5)) PARTITION BY LIST COLUMNS (r) (PARTITION a VALUES IN ('x','y'), PARTITION b VALUES IN ('z',NULL));
INSERT INTO p_list VALUES (1,'x'),(2,'y'),(3,'z'),(4,NULL),(4,NULL),(1,'x');
CREATE TABLE empty_int (id int PRIMARY KEY, v int);
CREATE TABLE empty_none (v int);

-- ---------- not copied ----------
CREATE VIEW v1 AS SELECT id FROM p_hash;
CREATE SEQUENCE sq1;
CREATE GLOBAL TEMPORARY TABLE tmp1 (a int) ON COMMIT DELETE ROWS;
